package kvregistry

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/kvregistry/internal/plist"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// service is what is known of one service, observed or registered by this process.
type service struct {
	name, filter string
	snap         atomic.Pointer[Snapshot] // nil before the first complete snapshot
	turns        atomic.Pointer[turns]    // of GetService; nil before the first

	// Of the cache's writers. The list is complete once snap is there, and then immutable: a change
	// makes a new one.
	list     instances
	count    int // of the instances in it
	revision uint64
	least    uint64 // what the revision of its next snapshot is at least
	unshown  uint64 // the batch of all changes of the list until it is shown
	held     bool   // this process registers it, or a Lookup has it: it stays if it is not observed
}

// cache holds the observed services. Readers take no lock: they load the map and then the service's
// snapshot, both immutable. Writers are the view's goroutine, and callers that observe one service
// more.
type cache struct {
	services atomic.Pointer[map[string]*service]
	catalog  atomic.Pointer[Catalog] // nil before the first snapshot of Everything
	skipped  atomic.Uint64           // records that could not be read
	merged   atomic.Uint64           // events that were told together with a later one
	full     atomic.Bool             // some instances did not fit into MaxMemory

	mu       sync.Mutex // guards what follows, and the making of new maps and snapshots
	observed map[string]*interest
	passing  map[string]int      // loops over names that go by the watch of Everything alone
	synced   map[string]struct{} // of observed: those whose first snapshot is there
	dead     map[string]struct{} // leases that were over before this registry came
	readers  map[string]map[*queue]struct{}
	signers  map[string]map[string]string // of what is kept, by service and id
	suspect  map[string]uint64            // the doubt's number, by the key of an instance
	doubts   uint64                       // how many there were
	batch    uint64                       // numbers the changes of lists that are made together
	revision uint64                       // the highest of the snapshots and catalogs
	dropped  uint64                       // above the revisions of the services that were dropped
	list     plist.List[Snapshot]         // of the next catalog
	enlisted bool                         // it is another than the last catalog's
	more     bool                         // some services did not fit: others may exist
	held     int                          // bytes that the instances take, about
	peak     int                          // the most of held since it was half of that
	view     *watcher.View
	log      *slog.Logger  // its handler runs later, for c.mu is held
	most     bounds        // never changes
	filled   func()        // is called, with c.mu held, when some instances do not fit into memory
	freed    chan struct{} // some or all of those that did not fit may fit now; holds one
}

func newCache(log *slog.Logger, most bounds) *cache {
	c := &cache{
		observed: map[string]*interest{}, passing: map[string]int{}, synced: map[string]struct{}{},
		readers: map[string]map[*queue]struct{}{},
		signers: map[string]map[string]string{}, suspect: map[string]uint64{}, log: log, most: most,
		filled: func() {}, freed: make(chan struct{}, 1), list: plist.New(snapshotKind),
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

// known is the snapshot of a service; nil if there is none yet.
func (c *cache) known(name string) *Snapshot {
	if svc := c.lookedUp(name); svc != nil {
		return svc.snap.Load()
	}
	return nil
}

// lookedUp is a service with a snapshot; nil if that is not known yet.
func (c *cache) lookedUp(name string) *service {
	if svc := c.find(name); svc != nil && svc.snap.Load() != nil {
		return svc
	}
	if c.sees(Everything) {
		return c.none(name)
	}
	return nil
}

// none is a service of which nothing is registered; nil if that is not known.
func (c *cache) none(name string) *service {
	c.mu.Lock()
	more, revision := c.more, c.revision
	c.mu.Unlock()
	if more || c.full.Load() {
		return nil
	}
	svc := &service{name: name}
	svc.snap.Store(newSnapshot(name, noInstances, version{revision: revision, view: c.view}))
	return svc
}

// track keeps what is seen of services that this process registers, so that nothing is missing from
// its first snapshot if one is observed later.
func (c *cache) track(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, svc := range c.add(names) {
		svc.held = true
	}
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
			svc = &service{name: name, filter: filter, list: noInstances, revision: c.dropped}
			services[name] = svc
		}
		list[i] = svc
	}
	c.services.Store(&services)
	return list
}

// bury names leases that were over before this registry came: what lives by them is not shown.
func (c *cache) bury(dead map[string]struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = dead
}

// apply brings a batch of changes into the snapshots, one new snapshot per service that changed,
// and tells the readers. With a whole snapshot, the services that it covers are there from now on.
func (c *cache) apply(seen []*sighting, snapshot *watcher.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	over, upTo := 0, uint64(0) // instances without room
	if snapshot != nil {
		over, upTo = snapshot.Over, snapshot.UpTo
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
		if svc == nil || snapshot != nil && s.traceless() && c.doubt(svc, s, upTo) {
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
		events = append(events, c.sync(snapshot)...)
	}
	c.showCatalog()
	for _, e := range events {
		c.tell(e)
	}
}

// readAgainCurve is the time between two readings of what does not fit into memory.
var readAgainCurve = backoff.Curve{Least: time.Second, Most: 16 * time.Minute}

// batchOf is the batch of a service's next change. The caller holds c.mu.
func (c *cache) batchOf(svc *service) uint64 {
	if c.shows(svc) {
		return c.batch
	}
	return svc.unshown
}

// publish shows a service's list as it is now. The caller holds c.mu.
func (c *cache) publish(svc *service) {
	if svc.count == 0 && c.catalog.Load() != nil {
		svc.revision = max(svc.revision, c.revision) // as that of a service that is not there
	}
	if svc.snap.Load() == nil {
		svc.list.Seal(svc.unshown)
	}
	svc.list.Seal(c.batch)
	svc.snap.Store(newSnapshot(svc.name, svc.list, version{revision: svc.revision, view: c.view}))
	svc.least = svc.revision + 1
	c.revision = max(c.revision, svc.revision)
	if c.catalog.Load() != nil {
		c.enlist(svc)
	}
}

// addSeen makes the services that nobody asked for by name, if everything is observed. The
// caller holds c.mu.
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

// sync publishes the first snapshot of each service that the view shows, even if it is empty, and
// says what there is to tell of it. The caller holds c.mu.
func (c *cache) sync(snapshot *watcher.Snapshot) (events []Event) {
	_, before := c.synced[Everything]
	for name := range c.observed {
		filter := tenant.AllServices
		if name != Everything {
			filter = c.find(name).filter
		}
		if snapshot.Covers(filter) {
			c.synced[name] = struct{}{}
		}
	}
	_, all := c.synced[Everything]
	if all && !before { // it is known of each name now
		for name := range c.readers {
			c.ring(name)
		}
	}
	for name, svc := range *c.services.Load() {
		if _, ok := c.synced[name]; (ok || all) && svc.snap.Load() == nil {
			c.publish(svc)
			c.ring(name) // there may be nothing to tell of it
			if len(c.readers) == 0 {
				continue
			}
			for s := range svc.snap.Load().All() {
				events = append(events, Event{Kind: Registered, Service: s, Revision: s.Revision})
			}
		}
	}
	return events
}

// change brings one change into a service's list, and says what there is to tell of it. The
// service's revision grows even if the bucket's started over, or if an older instance is kept now
// that there is room. The caller holds c.mu.
func (c *cache) change(svc *service, s *sighting) (Event, bool) {
	svc.revision = max(svc.revision, s.Revision)
	if svc.count == 0 && c.catalog.Load() != nil { // look-ups were told of the catalog's revision
		svc.least = max(svc.least, c.revision+1)
	}
	delete(c.suspect, s.Key)
	_, dead := c.dead[s.rec.Lease]
	switch was := svc.list.Find(s.id); {
	case s.Op == tenant.Put && !dead:
		s.rec.Instance.Owner, s.rec.Instance.Lease = s.rec.Owner, s.rec.Lease
		now := s.rec.Instance.compact(svc.name)
		svc.revision = max(svc.revision, svc.least)
		c.sign(s)
		svc.list = svc.list.With(c.batchOf(svc), now)
		c.held += now.bytes() - was.bytes()
		if was == nil {
			svc.count++
			return Event{Kind: Registered, Service: *now, Revision: s.Revision}, true
		}
		return Event{Kind: Updated, Service: *now, Before: was, Revision: s.Revision},
			!was.same(now)
	case was != nil:
		c.unsign(s)
		svc.revision = max(svc.revision, svc.least)
		svc.list = svc.list.Without(c.batchOf(svc), s.id)
		c.held -= was.bytes()
		svc.count--
		kind := Expired
		if s.Op == tenant.Delete {
			kind = Unregistered
		}
		return Event{Kind: kind, Service: *was, Before: was,
			Revision: max(s.Revision, was.Revision+1)}, true
	}
	return Event{}, false
}

// traceless reports whether a key is gone and nothing says why. A registration that is
// taken back or reaped leaves a trace.
func (s *sighting) traceless() bool { return s.Op == tenant.Purge && s.Revision == 0 }
