package kvregistry

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// service is what is known of one service, observed or registered by this process.
type service struct {
	name, filter string
	snap         atomic.Pointer[Snapshot] // nil before the first complete snapshot
	turns        atomic.Pointer[turns]    // of GetService; nil before the first

	// Of the cache's writers. The list is complete once snap is there, and then immutable: a change makes a new one.
	list     instances
	count    int // of the instances in it
	revision uint64
}

// cache holds the observed services. Readers take no lock: they load the map and then the service's
// snapshot, both immutable. Writers are the view's goroutine, and whoever observes one service more.
type cache struct {
	services atomic.Pointer[map[string]*service]
	skipped  atomic.Uint64 // records that could not be read
	full     atomic.Bool   // some instances did not fit into MaxMemory

	mu       sync.Mutex // guards what follows, and the making of new maps and snapshots
	observed map[string]struct{}
	synced   map[string]struct{} // of observed: those whose first snapshot is there
	dead     map[string]struct{} // leases that were over before this registry came
	readers  map[string]map[*queue]struct{}
	signers  map[string]map[string]string // who signed what is kept, by service and id, if signers are given
	suspect  map[string]uint64            // keys whose instance is in doubt, and which of the doubts it is
	doubts   uint64                       // how many there were
	batch    uint64                       // numbers the changes of lists that are made together
	more     bool                         // some services did not fit: one that is not there is not known
	held     int                          // bytes that the instances take, about
	peak     int                          // the most of them since some did not fit, or since it was half of that
	view     *watcher.View
	log      *slog.Logger  // its handler runs later, for c.mu is held
	most     bounds        // never changes
	filled   func()        // is called, with c.mu held, when some instances do not fit into memory
	freed    chan struct{} // some or all of those that did not fit may fit now; holds one
}

func newCache(log *slog.Logger, most bounds) *cache {
	c := &cache{
		observed: map[string]struct{}{}, synced: map[string]struct{}{}, readers: map[string]map[*queue]struct{}{},
		signers: map[string]map[string]string{}, suspect: map[string]uint64{}, log: log, most: most,
		filled: func() {}, freed: make(chan struct{}, 1),
	}
	c.services.Store(&map[string]*service{})
	return c
}

// find is a service that is observed, or nil.
func (c *cache) find(name string) *service { return (*c.services.Load())[name] }

// sees reports whether the first snapshot of an observed name, or of Everything, is there.
func (c *cache) sees(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.synced[name]
	return ok
}

// none is a service of which nothing is registered; nil where that is not known.
func (c *cache) none(name string) *service {
	c.mu.Lock()
	more := c.more
	c.mu.Unlock()
	if more || c.full.Load() {
		return nil
	}
	svc := &service{name: name}
	svc.snap.Store(newSnapshot(name, noInstances, 0, c.view))
	return svc
}

// observe adds a name, or Everything. It returns the service; nil for Everything.
func (c *cache) observe(name string) *service {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.observed[name] = struct{}{}
	if name == Everything {
		return nil
	}
	svc := c.add([]string{name})[0]
	if _, all := c.synced[Everything]; all && svc.snap.Load() == nil && !c.more {
		c.publish(svc)
	}
	return svc
}

// track keeps what is seen of services that this process registers, so that nothing is missing from its first
// snapshot if one is observed later.
func (c *cache) track(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(names)
}

// add makes services that are not there yet. The caller holds c.mu.
func (c *cache) add(names []string) []*service {
	old := *c.services.Load()
	services, list := old, make([]*service, len(names))
	for i, name := range names {
		svc, ok := services[name]
		if !ok {
			if len(services) == len(old) {
				services = maps.Clone(old)
			}
			filter, _ := tenant.ServiceFilter(name) // was checked
			svc = &service{name: name, filter: filter, list: noInstances}
			services[name] = svc
		}
		list[i] = svc
	}
	c.services.Store(&services)
	return list
}

// memory is how many bytes the instances take, about.
func (c *cache) memory() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// names are the observed ones, in order.
func (c *cache) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.observed))
}

// bury names leases that were over before this registry came: what lives by them is not shown.
func (c *cache) bury(dead map[string]struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = dead
}

// subscribe gives a reader the changes of a service, beginning with what is there.
func (c *cache) subscribe(name string, q *queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers[name] == nil {
		c.readers[name] = map[*queue]struct{}{}
	}
	c.readers[name][q] = struct{}{}
	if !q.Keeps() {
		return
	}
	for _, svc := range *c.services.Load() {
		if name != Everything && svc.name != name {
			continue
		}
		if snap := svc.snap.Load(); snap != nil {
			for s := range snap.All() {
				add(q, Event{Kind: Registered, Service: s})
			}
		}
	}
}

func (c *cache) unsubscribe(name string, q *queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.readers[name], q)
	if len(c.readers[name]) == 0 {
		delete(c.readers, name)
	}
}

// tell gives an event to who reads its service. The caller holds c.mu.
func (c *cache) tell(e Event) {
	for _, name := range []string{e.Service.Name, Everything} {
		for q := range c.readers[name] {
			add(q, e)
		}
	}
}

// sighting is a change together with what its value says.
type sighting struct {
	watcher.Change
	name, id string // as the key says
	rec      record
	signer   string // who signed it, if signers are given
	err      error  // why a put's value can't be read
}

// Bytes is about what a sighting takes in memory.
func (s *sighting) Bytes() int { return s.rec.Instance.bytes() }

// Junk reports whether a put's value can't be read.
func (s *sighting) Junk() bool { return s.err != nil }

// sight reads a change. A value that is longer than a record may be is not even looked at.
func sight(ch watcher.Change, most int) *sighting {
	s := &sighting{Change: ch}
	var ok bool
	if s.name, s.id, ok = tenant.ParseServiceKey(ch.Key); !ok {
		s.err = errNotKey
	} else if ch.Op == tenant.Put && max(ch.Long, len(ch.Value)) > most {
		s.err = errLong
	} else if ch.Op == tenant.Put {
		s.err = s.rec.decode(s.name, s.id, ch.Value, ch.Revision)
	}
	return s
}

// apply brings a batch of changes into the snapshots, one new snapshot per service that changed, and tells
// the readers. With a whole snapshot, the services that it covers are there from now on.
func (c *cache) apply(seen []*sighting, snapshot *watcher.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if snapshot != nil && snapshot.Reset {
		for _, svc := range *c.services.Load() {
			svc.revision = 0 // revisions started over
		}
	}
	over := 0 // instances without room
	if snapshot != nil {
		over = snapshot.Over
		c.skipped.Add(uint64(snapshot.Junk + over))
	}
	c.addSeen(seen)
	c.batch++
	changed := map[*service]bool{}
	var events []Event
	for _, s := range seen {
		svc, err := c.find(s.name), s.err
		if err == nil {
			err = c.overflows(svc, s)
		}
		if err == errMemory {
			over++
		}
		if err != nil {
			c.skip(s, err)
			continue
		}
		if svc == nil || snapshot != nil && s.traceless() && c.doubt(svc, s) {
			continue
		}
		changed[svc] = true
		if event, ok := c.change(svc, s); ok && c.shows(svc) {
			events = append(events, event)
		}
	}
	for svc := range changed {
		if c.shows(svc) {
			c.publish(svc)
		}
	}
	c.prune(changed)
	c.fill(over, snapshot)
	if snapshot != nil {
		events = append(events, c.sync()...)
	}
	for _, e := range events {
		c.tell(e)
	}
}

// fill notes how many instances did not fit into memory. Whether all do is known from the next
// whole snapshot. The caller holds c.mu.
func (c *cache) fill(over int, snapshot *watcher.Snapshot) {
	switch {
	case over > 0:
		c.peak = max(c.peak, c.held)
		if !c.full.Swap(true) {
			c.filled()
			c.log.Warn("kvregistry: the view is as large as it may be, instances are left out", "max", c.most.memory)
		}
	case snapshot != nil && !snapshot.Part:
		c.peak = 0
		if c.full.Swap(false) {
			bell.Ring(c.freed)
			c.log.Info("kvregistry: the view has room again, no instance is left out")
		}
	}
	if c.full.Load() && c.held < c.peak/2 {
		c.peak = c.held
		bell.Ring(c.freed)
	}
}

// readAgainCurve is the time between two readings of what does not fit into memory.
var readAgainCurve = backoff.Curve{Least: time.Second, Most: 16 * time.Minute}

// readAgain has everything read again while some of it does not fit into memory: when half of what
// was held is gone, and now and then.
func (r *Registry) readAgain() {
	for n := 0; ; n++ {
		select {
		case <-time.After(readAgainCurve.After(n)):
		case <-r.cache.freed:
			n = 0
		case <-r.ctx.Done():
			return
		}
		if !r.cache.full.Load() {
			return
		}
		r.view.ReadAgain()
	}
}

// kept is how many bytes the instances that are kept may take, about, and those of a snapshot that
// is read.
func (b bounds) kept() int { return b.memory / 3 }

// prune forgets services that nobody asked for by name and that have no instance any more, where everything is
// observed: they come back with their next instance. The caller holds c.mu.
func (c *cache) prune(changed map[*service]bool) {
	if _, all := c.synced[Everything]; !all {
		return
	}
	services := *c.services.Load()
	kept := services
	for svc := range changed {
		if _, asked := c.observed[svc.name]; asked || svc.count > 0 {
			continue
		}
		if len(kept) == len(services) {
			kept = maps.Clone(services)
		}
		delete(kept, svc.name)
	}
	c.services.Store(&kept)
}

// shows reports whether a service's list is complete, so that it may be shown. The caller holds c.mu.
func (c *cache) shows(svc *service) bool {
	_, all := c.synced[Everything]
	return all || svc.snap.Load() != nil
}

// unshown is the batch of all changes of a list that nobody was shown yet, as that of a service
// which this process registers and does not observe.
const unshown = 0

// batchOf is the batch of a service's next change. The caller holds c.mu.
func (c *cache) batchOf(svc *service) uint64 {
	if c.shows(svc) {
		return c.batch
	}
	return unshown
}

// publish shows a service's list as it is now. The caller holds c.mu.
func (c *cache) publish(svc *service) {
	if svc.snap.Load() == nil {
		svc.list.Seal(unshown)
	}
	svc.list.Seal(c.batch)
	svc.snap.Store(newSnapshot(svc.name, svc.list, svc.revision, c.view))
}

// addSeen makes the services that nobody asked for by name, where everything is observed. The caller holds
// c.mu.
func (c *cache) addSeen(seen []*sighting) {
	if _, all := c.observed[Everything]; !all {
		return
	}
	names := map[string]struct{}{}
	room := c.most.services - len(*c.services.Load())
	for _, s := range seen {
		if s.err == nil && s.Op == tenant.Put && c.find(s.name) == nil && len(names) < room {
			names[s.name] = struct{}{}
		}
	}
	c.add(slices.Collect(maps.Keys(names)))
}

// overflows says why an instance is not kept, nil where it is. The caller holds c.mu.
func (c *cache) overflows(svc *service, s *sighting) error {
	if s.Op != tenant.Put {
		return nil
	}
	if svc == nil {
		if _, all := c.observed[Everything]; all {
			c.more = true
			return errMore
		}
		return nil
	}
	was, now := svc.list.Find(s.id), &s.rec.Instance
	switch {
	case was == nil && svc.count >= c.most.instances:
		return errMany
	case c.most.memory > 0 && now.bytes() > was.bytes() && c.held+now.bytes()-was.bytes() > c.most.kept():
		return errMemory
	}
	return nil
}

// sync publishes the first snapshot of each service that the view shows, be it empty, and says what there
// is to tell of it. The caller holds c.mu.
func (c *cache) sync() (events []Event) {
	for name := range c.observed {
		filter := tenant.AllServices
		if name != Everything {
			filter = c.find(name).filter
		}
		if c.view.Shows(filter) {
			c.synced[name] = struct{}{}
		}
	}
	_, all := c.synced[Everything]
	for name, svc := range *c.services.Load() {
		if _, ok := c.synced[name]; (ok || all) && svc.snap.Load() == nil {
			c.publish(svc)
			for q := range c.readers[name] { // there may be nothing to tell of it
				q.Ring()
			}
			if len(c.readers) == 0 {
				continue
			}
			for s := range svc.snap.Load().All() {
				events = append(events, Event{Kind: Registered, Service: s})
			}
		}
	}
	return events
}

// change brings one change into a service's list, and says what there is to tell of it. The caller holds c.mu.
func (c *cache) change(svc *service, s *sighting) (Event, bool) {
	svc.revision = max(svc.revision, s.Revision)
	delete(c.suspect, s.Key)
	_, dead := c.dead[s.rec.Lease]
	switch was := svc.list.Find(s.id); {
	case s.Op == tenant.Put && !dead:
		now := s.rec.Instance.compact(svc.name)
		c.sign(s)
		svc.list = svc.list.With(c.batchOf(svc), now)
		c.held += now.bytes() - was.bytes()
		if was == nil {
			svc.count++
			return Event{Kind: Registered, Service: *now}, true
		}
		return Event{Kind: Updated, Service: *now}, !was.same(now)
	case was != nil:
		c.unsign(s)
		svc.list = svc.list.Without(c.batchOf(svc), s.id)
		c.held -= was.bytes()
		svc.count--
		kind := Expired
		if s.Op == tenant.Delete {
			kind = Unregistered
		}
		return Event{Kind: kind, Service: *was}, true
	}
	return Event{}, false
}

// sign notes who signed an instance. The caller holds c.mu.
func (c *cache) sign(s *sighting) {
	switch of := c.signers[s.name]; {
	case s.signer == "":
		c.unsign(s)
	case of == nil:
		c.signers[s.name] = map[string]string{s.id: s.signer}
	default:
		of[s.id] = s.signer
	}
}

// unsign forgets who signed an instance. The caller holds c.mu.
func (c *cache) unsign(s *sighting) {
	of := c.signers[s.name]
	delete(of, s.id)
	if len(of) == 0 {
		delete(c.signers, s.name)
	}
}

// signed is a service's snapshot, and who signed what is in it, by id.
func (c *cache) signed(svc *service) (*Snapshot, map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return svc.snap.Load(), maps.Clone(c.signers[svc.name])
}

// amends is how long an instance stays whose key was overwritten by what can't be read, or is gone from a new snapshot
// without anything that says why: its owner, where it lives, writes it again at once. A server that is killed right after it
// came back may have lost the key, and an operator may have purged the bucket.
const amends = time.Second

// traceless reports whether a key is gone and nothing says why. Who takes a registration back, or reaps it, leaves a trace.
func (s *sighting) traceless() bool { return s.Op == tenant.Purge && s.Revision == 0 }

// doubt leaves an instance to its owner's amends, and reports whether it is one that is there. The caller holds c.mu.
func (c *cache) doubt(svc *service, s *sighting) bool {
	if svc.list.Find(s.id) == nil {
		return false
	}
	if _, stands := c.suspect[s.Key]; stands { // more of the same gives its owner no more time
		return true
	}
	c.doubts++
	doubt := c.doubts
	c.suspect[s.Key] = doubt
	gone := &sighting{Change: watcher.Change{Key: s.Key, Revision: s.Revision, Op: tenant.Purge}, name: s.name, id: s.id} // what the value says is not kept until then
	time.AfterFunc(amends, func() { c.drop(gone, doubt) })
	return true
}

// skip counts a record that can't be read, or is not kept, and why. It changes no look-up; only where it took the place of an instance
// whose owner does not write it again, that instance goes. The caller holds c.mu.
func (c *cache) skip(s *sighting, why error) {
	n := c.skipped.Add(1)
	if n&(n-1) == 0 { // the 1st, 2nd, 4th, 8th …: a flood of them is no flood of log lines
		c.log.Warn("kvregistry: skipped a record that can't be read", "key", journal.Plain(s.Key), "service", journal.Plain(s.name),
			"instance", journal.Plain(s.id), "revision", s.Revision, "cause", journal.Plain(why.Error()), "skipped", n)
	}
	if why == errMany || why == errMore || why == errMemory {
		c.view.Again(s.Key)
	}
	if svc := c.find(s.name); svc != nil && !errors.Is(why, errNotKey) && c.doubt(svc, s) {
		return
	}
	c.view.Forget(s.Key)
}

// drop ends an instance whose key still holds what can't be read: s is its end.
func (c *cache) drop(s *sighting, doubt uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.suspect[s.Key] != doubt {
		return
	}
	delete(c.suspect, s.Key)
	svc := c.find(s.name)
	if svc == nil {
		return
	}
	c.batch++
	event, ok := c.change(svc, s)
	if ok && c.shows(svc) {
		c.publish(svc)
		c.tell(event)
	}
	c.prune(map[*service]bool{svc: true})
}
