package kvregistry

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// registration is one instance that this process declared. Its owner keeps the bucket's key at what was
// declared until it is taken back, or a newer registration of the same id takes over.
type registration struct {
	key, name, id string        // of the instance; they never change
	turn          chan struct{} // holds one token: whoever has it writes

	// Guarded by owner.mu.
	service Service
	version uint64                           // of service: each change has another one
	signed  draft                            // the value of its next write, where that was made before
	top     *layer                           // what it declares now: see claim
	made    bool                             // the id was made by Register
	asked   bool                             // a call of Register waits for it, or has returned without an error
	tried   bool                             // a write was sent, or is about to be
	size    int                              // of the largest value that there was room for
	acked   bool                             // the server has acknowledged a write
	dirty   bool                             // what was declared is not, or not surely, what the key holds
	ending  bool                             // it was taken back; its key is to be deleted
	over    error                            // why it is over: errEnded or ErrFenced
	rev     uint64                           // of the last write that is known to be its own, or of what its next write goes on top of
	lease   string                           // the lease that write names
	later   []func(Service) (Service, error) // changes that did not get their turn in time
	seen    *sighting
	mended  time.Time        // when it was last to be written over what is no registration,
	mending bool             // and whether it is to be once more, in a moment
	missed  uint64           // its revision when the view was last found to lack it
	floor   watcher.Revision // owner.latest when its last write was begun

	// Until a write was acknowledged: which of the registrations at its key are older than it.
	dated  bool   // since is known
	since  uint64 // a revision that the bucket had before the first write was sent
	unsure bool   // a write was sent that was neither acknowledged nor refused

	// What the log last told of it: see news.
	said      Status // empty while it is not told to be registered
	saidLease string
}

// owner holds what this process declared, and compares it with what the view sees.
type owner struct {
	mu      sync.Mutex // guards what follows, and the registrations
	byKey   map[string]*registration
	advance bell.Broadcast // an own key was seen
	wake    chan struct{}  // there may be something to write; holds one

	refusals map[string]error // why a registration of a service was refused that was never acknowledged

	versions uint64 // given so far

	latest watcher.Revision // the highest revision that the view saw
	outrun bool             // a write is of a later life than latest: the bucket was made anew, and the view has not noticed yet
}

func newOwner() *owner {
	return &owner{byKey: map[string]*registration{}, refusals: map[string]error{}, wake: make(chan struct{}, 1)}
}

func (o *owner) wakeUp() {
	bell.Ring(o.wake)
}

// see takes what the view saw of own keys. It returns the instances that were fenced by it.
func (o *owner) see(id string, seen []*sighting, snapshot *watcher.Snapshot) (fenced []Service) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if snapshot != nil && snapshot.Part { // it is no later than the session that it was added to
		snapshot = nil
	}
	if snapshot != nil {
		o.outrun = false
		if snapshot.Reset {
			for _, g := range o.byKey { // the bucket was made anew: nothing in it is known
				g.rev, g.seen, g.dirty, g.dated, g.unsure = 0, nil, true, false, false
			}
		}
		o.meet(watcher.Revision{Epoch: snapshot.Epoch, Seq: snapshot.UpTo})
	}
	if o.outrun { // this is of the bucket before
		return nil
	}
	for _, s := range seen {
		o.meet(watcher.Revision{Epoch: s.Epoch, Seq: s.Revision})
	}
	if len(o.byKey) == 0 {
		return nil
	}
	own, due := false, snapshot != nil
	for _, s := range seen {
		if g := o.byKey[s.Key]; g != nil {
			g.seen, own = s, true
			fenced = append(fenced, o.judge(id, g)...)
			due = due || g.due(g.lease)
		}
	}
	if snapshot != nil {
		for _, g := range o.byKey {
			o.missing(g, snapshot)
		}
	}
	if own {
		o.advance.Send()
	}
	if due {
		o.wakeUp()
	}
	return fenced
}

// meet notes a revision that the view saw. The caller holds o.mu.
func (o *owner) meet(rev watcher.Revision) {
	if o.latest.Before(rev) {
		o.latest = rev
	}
}

// missing marks a registration whose key should be in a snapshot and is not, tombstone and all.
func (o *owner) missing(g *registration, snapshot *watcher.Snapshot) {
	if g.acked && !g.busy() && g.rev <= snapshot.UpTo && !snapshot.Has(g.key) && snapshot.Covers(g.key) {
		g.rev, g.dirty = 0, true
	}
}

// busy reports whether a write is under way. What is seen meanwhile is judged after it.
func (g *registration) busy() bool { return len(g.turn) == 0 }

// judge compares what was last seen of a registration's key with what its owner wrote there. It returns the
// instance where a newer owner took over. The caller holds o.mu.
func (o *owner) judge(id string, g *registration) []Service {
	s := g.seen
	if s == nil || g.busy() || g.over != nil || !g.acked || s.Revision != 0 && s.Revision <= g.rev {
		return nil
	}
	switch {
	case s.Op != tenant.Put: // gone: it is written again, on top of what says so
		g.rev, g.dirty = s.Revision, true
		if s.traceless() { // no later write outdates it
			g.seen = nil
		}
	case s.err == nil && s.rec.Owner == id: // its own, of a write whose answer was lost
		g.rev, g.lease = s.Revision, s.rec.Lease
		g.dirty = g.dirty || !s.rec.Instance.same(&g.service)
	case s.taken():
		g.over = ErrFenced
		return []Service{g.service}
	case errors.Is(s.err, errLong) && s.Long <= largestRecord: // the next write meets it, and then it is read whole
		o.mend(g)
	default: // bytes that are no registration
		g.rev = s.Revision
		o.mend(g)
	}
	return nil
}

// mendTime is the least time between two writes over what is no registration. Owners that don't believe each other's signatures would have no end of them.
const mendTime = 250 * time.Millisecond

// mend has a registration written again over what is none: at once, unless that was done a moment ago. The caller holds o.mu.
func (o *owner) mend(g *registration) {
	wait := mendTime - time.Since(g.mended)
	switch {
	case wait <= 0:
		g.mended, g.dirty = time.Now(), true
	case !g.mending:
		g.mending = true
		time.AfterFunc(wait, func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			g.mending, g.mended, g.dirty = false, time.Now(), true
			o.wakeUp()
		})
	}
}

// taken reports whether a key's value is another owner's registration, be its format a newer one.
func (s *sighting) taken() bool { return s.err == nil || s.rec.Format > wire.Format }

// draft is the value of a registration's key, as it is of one version and under one lease.
type draft struct {
	version uint64
	lease   string
	value   []byte
}

// claim is what one call of Register has of a registration, until a later call declares something
// else under the same id. There is one registration of an id in a process, so that one goroutine at
// a time writes its key.
type claim struct {
	*registration
	at    *layer
	fresh bool // the registration is the call's own
}

// layer is what calls of Register declared that say the same. It lies on what was declared before,
// until one of its calls has returned. Guarded by owner.mu.
type layer struct {
	callers int    // how many of them have not failed; 0 if it was taken back
	undo    func() // has the registration declare what below does; nil if one of them has returned
	below   *layer // nil if undo is
	why     error  // why it was refused
}

// declare puts a registration on the list. If one of its id is there that is not over, that one
// declares the same from now on. Its status is kept if the caller gave none. If the registry is
// closed, nothing is declared: Close may have taken back what is on the list.
func (o *owner) declare(g *registration, status bool, closed *atomic.Bool) (c claim, added bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if closed.Load() {
		return c, false, ErrClosed
	}
	old := o.byKey[g.key]
	if old == nil || old.over != nil {
		g.top = &layer{callers: 1}
		o.byKey[g.key] = g
		return claim{registration: g, at: g.top, fresh: true}, true, nil
	}
	if next := g.service; old != g {
		if !status && !old.ending {
			next.Status = old.service.Status
		}
		o.redeclare(old, next)
	}
	old.top.callers++
	return claim{registration: old, at: old.top, fresh: old == g}, false, nil
}

// redeclare has a registration declare something else, though it is being taken back. The caller
// holds o.mu.
func (o *owner) redeclare(g *registration, next Service) {
	if g.service.same(&next) && !g.ending {
		return
	}
	ending, undo := g.ending, o.put(g, next)
	g.top = &layer{below: g.top, undo: func() {
		undo()
		g.ending = ending
	}}
	g.ending, g.dirty, g.later = false, true, nil
}

// stands notes that a call of Register has returned without having failed for good: what it
// declared is taken back by its unregister function alone.
func (o *owner) stands(c claim) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.at.undo, c.at.below = nil, nil
}

// drop notes that a call of Register does not want any more what it declared. If no other call
// does, the registration declares what it did before, and is taken back if that was dropped too.
func (o *owner) drop(c claim) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.at.callers = max(0, c.at.callers-1)
	o.uncover(c.registration)
}

// uncover takes away what was dropped, down to what was not. The caller holds o.mu.
func (o *owner) uncover(g *registration) {
	for g.declared() && g.top.callers == 0 {
		if g.top.undo == nil {
			g.ending, g.later = true, nil
			delete(o.refusals, g.name)
		} else {
			g.top.undo()
			g.top = g.top.below
		}
		o.wakeUp() // who has the turn may have given it back already
	}
}

// put has a registration declare something else. It returns what takes that back, unless there was
// another change since. The caller holds o.mu, as does the caller of undo.
func (o *owner) put(g *registration, next Service) (undo func()) {
	was, before, dirty, life, rev := g.service, g.version, g.dirty, o.latest.Epoch, g.rev
	if !next.same(&was) {
		o.versions++
		g.version, g.dirty = o.versions, true
	}
	version := g.version
	g.service = next
	return func() {
		if g.version == version {
			g.service, g.version, g.dirty = was, before, dirty || life != o.latest.Epoch || rev != g.rev
		}
	}
}

// claims are the given registrations as they are declared now.
func (o *owner) claims(list []*registration) []claim {
	o.mu.Lock()
	defer o.mu.Unlock()
	claims := make([]claim, len(list))
	for i, g := range list {
		claims[i] = claim{registration: g, at: g.top}
	}
	return claims
}

// registrations are those of the given claims.
func registrations(claims []claim) []*registration {
	list := make([]*registration, len(claims))
	for i, c := range claims {
		list[i] = c.registration
	}
	return list
}

// superseded is why what a call declared is not to be written: a later call declared something
// else, or another call was refused that declared the same.
func (o *owner) superseded(c claim) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.at.why == nil && c.at != c.top {
		return ErrFenced
	}
	return c.at.why
}

// forget takes a registration off the list, and reports whether it was on it.
func (o *owner) forget(g *registration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byKey[g.key] != g {
		return false
	}
	delete(o.byKey, g.key)
	return true
}

// has reports whether a key's registration is on the list.
func (o *owner) has(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.byKey[key] != nil
}

// declared is this process's registration of a service and an id; without an id, those of the service.
func (o *owner) declared(name, id string) []*registration {
	if id == "" {
		return o.named(name)
	}
	key, err := tenant.ServiceKey(name, id)
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.byKey[key]; err == nil && g != nil && g.declared() {
		return []*registration{g}
	}
	return nil
}

// named are this process's registrations of a service.
func (o *owner) named(name string) []*registration {
	return o.those(func(g *registration) bool { return g.declared() && g.name == name })
}

// open are the registrations that are not over, those that were taken back and still have a key included.
func (o *owner) open() []*registration {
	return o.those(func(g *registration) bool { return g.over == nil })
}

func (o *owner) those(ok func(*registration) bool) (list []*registration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range o.byKey {
		if ok(g) {
			list = append(list, g)
		}
	}
	return list
}

// declared reports whether a registration is neither over nor taken back. The caller holds owner.mu.
func (g *registration) declared() bool { return g.over == nil && !g.ending }

// due reports whether there is something to do about a registration while the process holds the given lease. The
// caller holds owner.mu.
func (g *registration) due(lease string) bool {
	return g.over != nil || g.ending || g.dirty || g.lease != lease
}

// due are the registrations whose key is to be written or deleted under the given lease, and those that are
// over and can be forgotten.
func (o *owner) due(lease string) (write, forget []*registration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range o.byKey {
		switch {
		case g.busy() || !g.due(lease):
		case g.over != nil:
			forget = append(forget, g)
		case g.ending || lease != "":
			write = append(write, g)
		}
	}
	return write, forget
}

// settled reports whether a registration is thought to stand in the bucket as it was declared, and at which revision.
func (o *owner) settled(g *registration) (rev uint64, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return g.rev, g.acked && !g.busy() && !g.due(g.lease)
}

// lacked notes whether the view lacks a registration which is settled at a revision. The second time in a row it is to be written again.
func (o *owner) lacked(g *registration, rev uint64, lacks bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !lacks {
		g.missed = 0
		return false
	}
	again := g.missed == rev && g.rev == rev && !g.busy() && !g.due(g.lease)
	g.missed, g.dirty = rev, g.dirty || again
	return again
}

// unwritten is how many registrations the bucket does not hold as they were declared, under the given lease.
func (o *owner) unwritten(l *lease.Lease) int {
	id := ""
	if l != nil {
		id = l.ID
	}
	return len(o.those(func(g *registration) bool { return g.over == nil && (!g.acked || g.mending || g.due(id)) }))
}

// any reports whether there is a registration at all.
func (o *owner) any() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.byKey) > 0
}

// pending is a registration of this content, whose id was made, for which Register has returned without success. The
// caller asks for it from now on.
func (o *owner) pending(s *Service) *registration {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range o.byKey {
		if g.made && !g.asked && g.declared() {
			want := *s
			want.ID = g.id
			if g.service.same(&want) {
				g.asked = true
				return g
			}
		}
	}
	return nil
}

// answered notes what a call of Register came to.
func (o *owner) answered(g *registration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g.asked = err == nil
}

// clean reports whether a registration's key holds what was declared, under the given lease.
func (o *owner) clean(g *registration, lease string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return g.acked && !g.due(lease)
}

// withdraw takes back what a call declared, which was refused: what was declared before stays. If a
// write of it may have happened all the same, its key is deleted. A process that may not write it
// may not delete it either.
func (o *owner) withdraw(c claim, why error) {
	g := c.registration
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case c.at != g.top: // a later call declared something else, which may not be refused
		c.at.callers = max(0, c.at.callers-1)
	case c.at.undo != nil:
		c.at.callers, c.at.why = 0, why
		o.uncover(g)
	case g.acked && !c.fresh: // it was written for an earlier call
		c.at.callers--
	default:
		c.at.why = why
		o.refuse(g, why)
		g.ending = true
		if !g.tried || errors.Is(why, ErrPermission) {
			g.over = errEnded
		}
	}
}

// mostRefused is how many services are known whose registration was refused.
const mostRefused = 64

// refuse notes that a registration was refused. The caller holds o.mu.
func (o *owner) refuse(g *registration, why error) {
	if refuses(why) && !g.acked && len(o.refusals) < mostRefused {
		o.refusals[g.name] = fmt.Errorf("register %q of service %q: %w", g.id, g.name, why)
	}
}

// notWritten notes why a registration could not be written in the background.
func (o *owner) notWritten(g *registration, why error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refuse(g, why)
}

// forgive forgets that registrations of a service were refused.
func (o *owner) forgive(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.refusals, name)
}

// refusal is why a registration was refused that was never acknowledged, that of the first service
// by name. failure is why there is no lease for one that waits for it.
func (o *owner) refusal(failure error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.refusals) > 0 {
		return o.refusals[slices.Min(slices.Collect(maps.Keys(o.refusals)))]
	}
	for _, g := range o.byKey {
		if refuses(failure) && g.declared() && !g.acked {
			return failure
		}
	}
	return nil
}

// untried is what a registration declares of which no write was tried yet.
func (o *owner) untried(g *registration) (s Service, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return g.service, !g.tried
}

// admitted is the size of a value that a registration has room for.
func (o *owner) admitted(g *registration) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return g.size
}

// admit notes that there is room for a registration.
func (o *owner) admit(g *registration, size int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g.size = size
}

// sends notes that a registration is about to be written, unless it was taken back meanwhile.
func (o *owner) sends(g *registration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := g.gone(); err != nil {
		return err
	}
	g.tried = true
	return nil
}

// gone is why a registration is not to be written any more. The caller holds owner.mu.
func (g *registration) gone() error {
	if g.over == nil && g.ending {
		return errEnded
	}
	return g.over
}

// alter changes what is declared, unless the change is refused. It returns what takes it back, for whoever has the turn.
func (o *owner) alter(g *registration, change func(Service) (Service, error)) (revert func(), err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	undo, err := o.change(g, change)
	if err != nil {
		return nil, err
	}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		undo()
	}, nil
}

// writing is what a registration's next write says.
type writing struct {
	service Service
	value   []byte // of the service, if it was made before
	rev     uint64 // on top of which it goes
	acked   bool   // a write was acknowledged before
}

// writing is a registration's next write, under a lease.
func (o *owner) writing(g *registration, lease string) (w writing, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := g.gone(); err != nil {
		return w, err
	}
	w = writing{service: g.service, rev: g.rev, acked: g.acked}
	if g.signed.version == g.version && g.signed.lease == lease {
		w.value = g.signed.value
	}
	g.signed = draft{}
	g.dirty = false
	g.floor = o.latest
	return w, nil
}

// content is what a registration declares, and the version of that. ok is false if it is not to be
// written.
func (o *owner) content(g *registration) (s Service, version uint64, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return g.service, g.version, g.declared()
}

// keep keeps the value of a registration's next write.
func (o *owner) keep(g *registration, d draft) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g.signed = d
}

// written notes what a write came to. Where its revision is not above what was seen before it was begun, revisions have started
// over, and what the view saw until now is of the bucket before: compared with this revision, an earlier owner there would
// look like a newer one.
func (o *owner) written(g *registration, rev uint64, lease string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g.acked, g.rev, g.lease = true, rev, lease
	delete(o.refusals, g.name)
	if o.latest.Epoch < g.floor.Written(rev).Epoch {
		o.outrun = true
		for _, g := range o.byKey {
			g.seen = nil
		}
	}
}

func (o *owner) failed(g *registration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g.dirty = true
}

// unanswered notes that a write of a registration was sent and may have happened, or may happen
// yet.
func (o *owner) unanswered(g *registration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g.unsure = true
}

// undated reports whether it is still to be found out what is older than a registration.
func (o *owner) undated(g *registration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !g.acked && !g.dated
}

// date notes a revision that the bucket had before a registration was first written, and on top of
// which revision of its key that write is to go.
func (o *owner) date(g *registration, since, rev uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !g.acked && !g.dated {
		g.dated, g.since, g.rev = true, since, rev
	}
}

// outdated reports whether another's registration at a revision of the key is newer than g. If g
// was not acknowledged yet, it is older, unless g's own write may have come before it. The caller
// holds owner.mu.
func (g *registration) outdated(rev uint64) bool {
	return g.acked || g.unsure && rev > g.since
}

// met takes what stands in the way of a write.
func (o *owner) met(id string, g *registration, s *sighting) (fenced *Service, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case s.traceless(): // the key never was, or went with the bucket
		g.rev = 0
		return nil, g.vanished()
	case g.acked && s.Revision <= g.rev:
		return nil, errStale
	case s.Op != tenant.Put:
		g.rev = s.Revision
		return nil, g.vanished()
	case s.err == nil && s.rec.Owner == id:
		g.acked = true
	case s.taken() && g.outdated(s.Revision):
		g.over = ErrFenced
		s := g.service
		return &s, ErrFenced
	case s.taken() && g.ending: // it is not there, and what is there is not its own
		return nil, errGone
	}
	g.rev = s.Revision
	return nil, nil
}

// leave is alter for who did not get the turn: whoever has it makes the change when it is given back.
func (o *owner) leave(g *registration, change func(Service) (Service, error)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !g.busy() {
		_, err := o.change(g, change)
		if err == nil {
			o.wakeUp()
		}
		return err
	}
	if _, err := change(g.service); err != nil {
		return err
	}
	g.later = append(g.later, change)
	return nil
}

// change makes one change of what is declared, unless it is refused. It returns what takes it back,
// as put does. The caller holds owner.mu.
func (o *owner) change(g *registration, change func(Service) (Service, error)) (undo func(), err error) {
	next, err := change(g.service)
	if err != nil {
		return nil, err
	}
	return o.put(g, next), nil
}

// catchUp makes the changes that were left. The caller holds owner.mu, and nobody writes.
func (o *owner) catchUp(g *registration) {
	for _, change := range g.later {
		_, _ = o.change(g, change) // it was tried when it was left
	}
	g.later = nil
}

// vanished is errGone where the registration's key was there.
func (g *registration) vanished() error {
	if g.acked {
		return errGone
	}
	return nil
}

// ending marks a registration as taken back. done is true if it is over already, or a later call
// declared something else.
func (o *owner) ending(c claim) (done bool, err error) {
	g := c.registration
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case errors.Is(g.over, errEnded):
		return true, nil
	case g.over != nil:
		return true, fmt.Errorf("%q of service %q: %w", g.id, g.name, g.over)
	case c.at != g.top:
		c.at.callers = 0
		return true, fmt.Errorf("%q of service %q: %w", g.id, g.name, ErrFenced)
	}
	g.ending, g.later = true, nil
	delete(o.refusals, g.name)
	return false, nil
}

func (o *owner) isEnding(g *registration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return g.ending
}

// removing is the revision that a registration's delete goes on top of. known is false if no write
// of it was acknowledged. done is true if none was tried, if it is over, or if it was declared
// again.
func (o *owner) removing(g *registration) (rev uint64, known, done bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if g.over == nil && g.ending && !g.tried {
		g.over = errEnded
	}
	return g.rev, g.acked, g.over != nil || !g.ending
}

// refused gives up the deletion of a key, which goes with its lease.
func (o *owner) refused(g *registration, why error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g.over = fmt.Errorf("not deleted, it goes when this registry is closed: %w", why)
}

// ended notes that a registration's key is deleted, at a revision. If the registration was declared
// again meanwhile, it is written on top of that.
func (o *owner) ended(g *registration, rev uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g.rev = max(g.rev, rev)
	if g.ending {
		g.over = errEnded
		return
	}
	g.acked, g.dirty = true, true
}
