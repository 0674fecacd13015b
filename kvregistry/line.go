package kvregistry

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// ticket is a place in a name's line: a key that is written once, whose revision is the place. Whose is the lowest holds the name.
type ticket struct {
	name  string // that it is for; of none that is known where it is to be removed only
	key   string
	lease *lease.Lease  // nil where it is not known
	waits bool          // the log says that it waits; its caller's
	once  bool          // its first write was acknowledged, so that no other is under way; its caller's, until it quits
	moved chan struct{} // it was seen, may be the first now, or is over; holds one
	left  chan struct{} // closed when nothing more is to be done about its key

	// Guarded by lines.mu.
	place uint64    // its key's revision, once the view has shown it
	gone  bool      // its key was removed, or written by another, or went with the bucket
	err   error     // why its key could not be removed
	since time.Time // when it was made, or its turn came; zero once it was given up
	held  bool      // its turn came
}

// lines are the names' lines as far as this process looks at them, and its own tickets in them.
//
// That a ticket is the first of its line is a thing that stays true, however far behind the view may be: a key's revision is above all that were written
// before, so what comes later stands behind, and a view that shows a ticket shows whatever stood before it then, or that it has left.
type lines struct {
	ttl   time.Duration
	owner string        // this registry's id
	view  *watcher.View // has a consumer of its own, and only in a process that takes tickets

	mu      sync.Mutex // guards what follows, and the tickets
	started bool
	closed  bool
	places  map[string]map[string]uint64 // the revisions of a line's keys
	tickets map[string]*ticket           // this process's own, by key
	remade  time.Time                    // when the bucket was last seen to be made anew
}

func newLines(ttl time.Duration, owner string) *lines {
	return &lines{ttl: ttl, owner: owner, places: map[string]map[string]uint64{}, tickets: map[string]*ticket{}}
}

// lineOf is the part of a key that the keys of a line share.
func lineOf(key string) string { return key[:strings.LastIndexByte(key, '.')+1] }

// watch has the view show a line, from now on for as long as the registry lives, and waits until it does.
func (ls *lines) watch(ctx context.Context, filter string) error {
	ls.mu.Lock()
	switch {
	case ls.closed:
		ls.mu.Unlock()
		return ErrClosed
	case !ls.started:
		ls.started = true
		ls.view.Start() // ends with its Close, which Registry.Close calls
	}
	ls.mu.Unlock()
	ls.view.Watch(filter)
	return ls.view.Wait(ctx, filter)
}

// enter makes a ticket, of which nothing is written yet.
func (ls *lines) enter(name, key string, l *lease.Lease) (*ticket, error) {
	t := &ticket{name: name, key: key, lease: l, since: time.Now(), moved: make(chan struct{}, 1), left: make(chan struct{})}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		return nil, ErrClosed
	}
	ls.tickets[t.key] = t
	return t, nil
}

// hold notes that a ticket's turn has come, and returns its place.
func (ls *lines) hold(t *ticket) uint64 {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	t.held, t.since = true, time.Now()
	return t.place
}

// giveUp notes that nobody stands by a ticket any more, whose key is to be removed.
func (ls *lines) giveUp(t *ticket) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	t.since = time.Time{}
}

// health is of what is held or waited for, in order.
func (ls *lines) health() (list []HoldHealth) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, t := range ls.tickets {
		if h := (HoldHealth{Name: t.name, Since: t.since}); !t.since.IsZero() && ls.why(t) == nil {
			if t.held {
				h.Token = t.place
			}
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(a, b HoldHealth) int { return cmp.Or(cmp.Compare(a.Name, b.Name), a.Since.Compare(b.Since)) })
	return list
}

// leave forgets a ticket whose key is gone, or can't be removed. The first word of why is the one that is told.
func (ls *lines) leave(t *ticket, err error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.tickets[t.key] == t {
		delete(ls.tickets, t.key)
		t.err = err
		close(t.left)
	}
}

// stands reports whether a ticket's key is known to have been written, under a lease that is not known to be over.
func (ls *lines) stands(t *ticket) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return (t.once || t.place > 0) && (t.lease == nil || t.lease.Err() == nil)
}

// apply takes what the view saw. It returns this process's tickets that have left and stand in line again.
func (ls *lines) apply(changes []watcher.Change, snapshot *watcher.Snapshot) (strays []*ticket) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if snapshot != nil && snapshot.Reset {
		ls.remade = time.Now()
		for _, t := range ls.tickets {
			t.gone = true
			t.wake()
		}
	}
	touched := map[string]struct{}{} // lines
	for _, ch := range changes {
		stands, owner := readOf(ch)
		ls.see(ch, stands)
		touched[lineOf(ch.Key)] = struct{}{}
		if owner == ls.owner && ls.tickets[ch.Key] == nil && !ls.closed {
			t := &ticket{key: ch.Key, place: ch.Revision, gone: true, moved: make(chan struct{}, 1), left: make(chan struct{})}
			ls.tickets[t.key] = t
			strays = append(strays, t)
		}
	}
	for line := range touched {
		ls.wakeFirst(line)
	}
	return strays
}

// restart notes that the bucket was made anew.
func (ls *lines) restart() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.remade = time.Now()
}

// wakeFirst wakes the first of a line, where that is this process's own: whoever else waits has nothing to do. The caller holds ls.mu.
func (ls *lines) wakeFirst(line string) {
	first, least := "", uint64(0)
	for key, place := range ls.places[line] {
		if first == "" || place < least {
			first, least = key, place
		}
	}
	if t := ls.tickets[first]; t != nil {
		t.wake()
	}
}

// see takes one change. The caller holds ls.mu.
func (ls *lines) see(ch watcher.Change, stands bool) {
	line := lineOf(ch.Key)
	if stands {
		if ls.places[line] == nil {
			ls.places[line] = map[string]uint64{}
		}
		ls.places[line][ch.Key] = ch.Revision
	} else if delete(ls.places[line], ch.Key); len(ls.places[line]) == 0 {
		delete(ls.places, line)
	}
	if t := ls.tickets[ch.Key]; t != nil {
		t.gone = t.gone || ch.Op != tenant.Put || t.place != 0 // a ticket is written once
		t.place = ch.Revision
		t.wake()
	}
}

// longestTicket is how many bytes a ticket's value has at the most.
const longestTicket = 4 << 10

// readTicket reads a ticket for readOf, which is not given its value then.
func readTicket(ch watcher.Change) any { return headOf(ch.Value) }

// readOf reports whether what stands at a key has a place: a ticket, be its format a newer one. Other bytes have none: no lease would ever end them. owner
// is whose it is, where that is known.
func readOf(ch watcher.Change) (stands bool, owner string) {
	if ch.Op != tenant.Put {
		return false, ""
	}
	h, ok := ch.Read.(head)
	if !ok {
		h = headOf(ch.Value)
	}
	if h.format > format {
		h.owner = ""
	}
	return h.lives(), h.owner
}

func (t *ticket) wake() {
	bell.Ring(t.moved)
}

// standing is how a ticket stands at one moment.
type standing struct {
	place uint64    // 0 where its key was not seen yet
	ahead int       // how many stand before it
	over  error     // why it stands no more: errGone or ErrClosed
	from  time.Time // when it may hold the name at the earliest
}

// standing says how a ticket stands. Where the bucket was made anew, whoever held a name in the one before may not know yet: nobody holds one for a TTL.
func (ls *lines) standing(t *ticket) (s standing) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	s.place, s.over = t.place, ls.why(t)
	for _, place := range ls.places[lineOf(t.key)] {
		if place < t.place {
			s.ahead++
		}
	}
	if !ls.remade.IsZero() {
		s.from = ls.remade.Add(ls.ttl)
	}
	return s
}

// over is why a ticket stands no more, nil where it does.
func (ls *lines) over(t *ticket) error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.why(t)
}

// why is over for who holds ls.mu.
func (ls *lines) why(t *ticket) error {
	switch {
	case ls.closed:
		return ErrClosed
	case t.gone:
		return errGone
	}
	return nil
}

// close ends all that this process holds, and waits until its tickets have left.
func (ls *lines) close(ctx context.Context) error {
	ls.mu.Lock()
	ls.closed = true
	var list []*ticket
	for _, t := range ls.tickets {
		list = append(list, t)
		t.wake()
	}
	ls.mu.Unlock()
	for _, t := range list {
		if err := ls.gone(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// gone waits until a ticket has left.
func (ls *lines) gone(ctx context.Context, t *ticket) error {
	select {
	case <-t.left:
		ls.mu.Lock()
		defer ls.mu.Unlock()
		return t.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %s is removed as soon as NATS answers: %w", ErrPending, t.key, ctx.Err())
	}
}
