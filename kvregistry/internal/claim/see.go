package claim

import (
	"time"

	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/tenant"
)

// Kind says what stands at a key.
type Kind int

// What may stand at a key.
const (
	Nothing Kind = iota // no value
	Own                 // a registration that this owner wrote
	Other               // another owner's registration, or one of a newer format
	Junk                // a value that is no registration
)

// Sight is what a view saw of a key. A revision of 0 is that of a key that went without a trace.
type Sight struct {
	Key      string
	Revision uint64
	Gone     bool // the key has no value
	TooLong  bool // its value is longer than any registration, and need not be read
}

// See takes what a view saw of keys with a registration, and the highest revision that it saw. A
// view that read everything says so by whole, and by reset that the bucket was made again, so that
// revisions have started over.
//
// What is seen of a key is only a reason to look. The stream's leader says what stands there: what
// a view saw may be of a bucket that is no more.
func (o *Owner[T]) See(seen []Sight, upTo uint64, whole, reset bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if reset { // nothing in the bucket is known
		o.upTo = 0
		for _, g := range o.byKey {
			g.rev, g.seen, g.written, g.dated, g.unsure = 0, nil, 0, false, false
			o.uncover(g)
			o.touch(g)
		}
	}
	o.upTo = max(o.upTo, upTo)
	for _, s := range seen {
		if g := o.byKey[s.Key]; g != nil {
			g.seen = &s
			o.judge(g)
			g.changed.Send()
		}
	}
	if whole {
		o.audits = true
		bell.Ring(o.bell)
	}
}

// judge compares what was last seen of a key with what is known of it.
func (o *Owner[T]) judge(g *Registration[T]) {
	s := g.seen
	switch {
	case s == nil, g.busy, g.over != nil, !g.acked, s.Revision != 0 && s.Revision <= g.rev:
		return
	case !s.Gone && !s.TooLong: // the leader says what it is
		g.look = true
	default: // it is written again, on top of what says so
		g.rev, g.written = s.Revision, 0
		if s.Revision == 0 { // no later write outdates it
			g.seen = nil
		}
	}
	o.touch(g)
}

// audit looks for registrations that the view should have and lacks. What is seen of a key says so
// at once, and the audit of a snapshot finds keys that the view never saw. An audit that tells is
// for what no sight told: it reports what it finds.
func (o *Owner[T]) audit(tells bool) {
	// shown reports whether the view should have a registration, as far as it has told.
	shown := func(g *Registration[T]) bool { return g.settled() && !g.busy && g.rev <= o.upTo }
	o.mu.Lock()
	tells = tells && !o.audits // a snapshot came, and its audit comes yet
	var list []*Registration[T]
	for _, g := range o.byKey {
		if shown(g) {
			list = append(list, g)
		}
	}
	o.mu.Unlock()
	for _, g := range list {
		if o.cfg.Registry.Lacks(g.Key) {
			o.mu.Lock()
			if shown(g) { // the view may have told meanwhile why it lacks it
				g.look, g.lacked = true, tells
				o.touch(g)
			}
			o.mu.Unlock()
		}
	}
}

// mendTime is the least time between two writes over what is no registration, unless the second is
// refused. Owners that don't believe each other's signatures would have no end of them.
const mendTime = 250 * time.Millisecond

// met takes what stands at a step's key, as the stream's leader knows it. If the error is nil, the
// step goes on top of it.
func (o *Owner[T]) met(st *step[T], e tenant.Entry, kind Kind) error {
	g, deletes := st.g, st.layer == nil
	now := time.Now()
	switch {
	case kind == Nothing && e.Revision == 0: // the key never was, or went with the bucket
	// behind the write that was refused
	case g.acked && (e.Revision < g.rev || e.Revision == g.rev && st.sent),
		g.look && g.seen != nil && e.Revision < g.seen.Revision:
		return errStale
	case kind == Own && g.acked && e.Revision == g.rev:
		g.look, g.lacked = false, false
		return nil
	case kind == Own:
		g.acked = true
	case kind == Other && (g.acked || g.unsure && e.Revision > g.since):
		// It is newer: if no own write was acknowledged, one may have come before it.
		return ErrFenced
	case kind == Other && deletes:
		return errGone
	case kind == Junk && !deletes && !st.sent && !g.mending && now.Before(g.mended.Add(mendTime)):
		g.retry, g.mending, g.written = g.mended.Add(mendTime), true, 0
		return errRest // it looks again then
	case kind == Junk:
		g.mended, g.mending = now, false
	}
	st.missing = g.lacked && kind == Nothing
	g.rev, g.written, g.look, g.lacked = e.Revision, 0, false, false
	if kind == Nothing && deletes && g.acked {
		return errGone
	}
	return nil
}
