package kvregistry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// Registry registers and finds the services of one tenant. All of its methods may be called by any number
// of goroutines.
type Registry struct {
	opt    options
	id     string // this registry's, in the records that it writes
	bucket *tenant.Bucket
	keeper *lease.Keeper
	reaper *lease.Reaper // not started where others reap
	view   *watcher.View
	cache  *cache
	own    *owner
	file   *files // of snapshots; nil where none is kept
	lines  *lines
	events *queue        // of OnEvent; nil where it was not asked for
	crowd  chan struct{} // has a token for each single write that is under way

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	closed atomic.Bool

	life  sync.Mutex     // guards wg and calls against a Close at the same time
	wg    sync.WaitGroup // the registry's own goroutines
	calls sync.WaitGroup // those in which the user's functions run

	state   sync.Mutex          // guards what follows
	changed chan struct{}       // closed when ready or failure changes, and made anew
	ready   bool                // the bucket was checked
	failure error               // why it was not
	needs   map[string]struct{} // the names that Health.Ready waits for; see need
}

// New makes a registry on a connection, which stays the caller's: Close does not close it.
//
// It checks the server and the tenant's bucket, which it makes where there is none. Errors say what is wrong
// and what to do, and wrap [ErrNilConnection], [ErrConnectionClosed], [ErrInvalidOption], [ErrServerTooOld],
// [ErrJetStreamOff], [ErrPermission], [ErrStorageFull], [ErrBucketMismatch], or ctx's error. Where the
// connection is not up yet, or is being made again, New returns at once, and all this is done as soon as
// it is; calls wait for it. So it is where the server does not answer until ctx ends, or for 10 s where it has no deadline, and a
// [SnapshotFile] has something to answer with meanwhile.
func New(ctx context.Context, nc *nats.Conn, opts ...Option) (*Registry, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	if o.ncGiven && o.nc != nc {
		return nil, fmt.Errorf("kvregistry: %w: New takes its connection as an argument; leave out Nats", ErrInvalidOption)
	}
	o.nc = nc
	r, err := build(o)
	if err != nil {
		return nil, err
	}
	if nc.IsConnected() {
		err := r.provisionNow(ctx)
		if err == nil {
			return r, nil
		}
		if tenant.Permanent(err) || !r.file.knows() || errors.Is(ctx.Err(), context.Canceled) {
			_ = r.Close()
			return nil, fmt.Errorf("kvregistry: %w", err)
		}
	}
	r.goUnlessClosed(&r.wg, func() { _ = r.provision(r.ctx, false) }) // ends with r.ctx; Close waits
	return r, nil
}

// provisionNow is provision for a caller who waits: until ctx ends, or for 10 s where it has no deadline.
func (r *Registry) provisionNow(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 2*writeTime)
		defer cancel()
	}
	return r.provision(ctx, true)
}

// build makes the parts of a registry. It sends nothing.
func build(o options) (*Registry, error) {
	if o.nc == nil {
		return nil, fmt.Errorf("kvregistry: %w: pass one that nats.Connect returned", ErrNilConnection)
	}
	b, err := tenant.New(o.nc, o.tenant, o.bucket)
	if err != nil {
		return nil, fmt.Errorf("kvregistry: %w", err)
	}
	r := &Registry{
		opt: o, id: rand.Text(), bucket: b, cache: newCache(o.logger, o.bounds), own: newOwner(), crowd: make(chan struct{}, crowd), changed: make(chan struct{}),
		needs: map[string]struct{}{},
	}
	if o.file != "" {
		if r.file, err = openFile(&o); err != nil {
			return nil, fmt.Errorf("kvregistry: %w", err)
		}
	}
	r.lines = newLines(o.ttl, r.id)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.keeper, err = lease.NewKeeper(b, lease.KeeperConfig{
		TTL: o.ttl, Value: leaseValue(r.id, o.ttl), Granted: func(*lease.Lease) { r.own.wakeUp() }, Lost: r.leaseLost, Logger: o.logger,
	})
	if err != nil {
		return nil, fmt.Errorf("kvregistry: %w", err)
	}
	r.reaper = lease.NewReaper(b, lease.ReaperConfig{
		TTL: o.ttl, Owner: r.id, LeaseOf: lifeOf, Steady: r.keeper.Steady, Check: o.checkTime(), Logger: o.logger,
	})
	watch := func(cfg watcher.Config) *watcher.View {
		cfg.Missing, cfg.Check, cfg.Logger = b.Ensure, o.checkTime(), o.logger
		cfg.Heartbeat, cfg.Patience = o.heartbeat(), o.ttl
		return watcher.New(b, cfg)
	}
	r.view = watch(watcher.Config{
		Apply: r.apply, Read: func(ch watcher.Change) any { return r.read(ch) }, MaxValue: o.bounds.record,
	})
	r.cache.view = r.view
	r.cache.spawn = func(f func()) { r.goUnlessClosed(&r.calls, f) }
	r.lines.view = watch(watcher.Config{Apply: r.applyLines, Read: readTicket, MaxValue: longestTicket})
	r.goUnlessClosed(&r.wg, r.reconcile) // ends with r.ctx; Close waits
	if r.file != nil {
		r.goUnlessClosed(&r.wg, r.keepFile) // likewise
	}
	if o.onHealth != nil {
		r.goUnlessClosed(&r.calls, r.tellHealth) // likewise
	}
	if o.onEvent != nil {
		r.events = newQueue()
		r.cache.subscribe(Everything, r.events)
		r.goUnlessClosed(&r.calls, func() { r.callback(r.events) }) // likewise
	}
	return r, nil
}

// goUnlessClosed starts f in a goroutine that Close waits for by wg; f ends with r.ctx. It reports whether it
// did: not in a closed registry.
func (r *Registry) goUnlessClosed(wg *sync.WaitGroup, f func()) bool {
	r.life.Lock()
	defer r.life.Unlock()
	if r.ctx.Err() != nil {
		return false
	}
	wg.Go(f)
	return true
}

// provision checks the server and the bucket, finds out who was dead before, and starts what watches and
// reaps. It tries again until ctx ends; with once, a fault that stays is the end of it.
func (r *Registry) provision(ctx context.Context, once bool) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := r.prepare(ctx)
		if err == nil {
			for _, advice := range r.bucket.Advice() {
				r.opt.logger.Warn("kvregistry: the server or the bucket should be changed", "advice", advice)
			}
			return nil
		}
		r.setState(false, err)
		if once && tenant.Permanent(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-r.ctx.Done():
			return ErrClosed
		case <-time.After(wait):
		}
	}
}

func (r *Registry) prepare(ctx context.Context) error {
	if err := r.bucket.Ensure(ctx); err != nil {
		return err
	}
	dead, err := r.reaper.Dead(ctx)
	if err != nil && !tenant.Permanent(err) && !r.bucket.HubAway(err) { // who may not find out does without
		return err
	}
	r.cache.bury(dead)
	r.life.Lock()
	defer r.life.Unlock()
	if r.ctx.Err() != nil {
		return ErrClosed
	}
	if !r.opt.standBy {
		r.reaper.Start()
	}
	r.view.Start()
	r.setState(true, nil)
	return nil
}

func (r *Registry) setState(ready bool, failure error) {
	r.state.Lock()
	defer r.state.Unlock()
	r.ready, r.failure = ready, failure
	close(r.changed)
	r.changed = make(chan struct{})
}

// awaitReady waits until the bucket was checked. A fault that stays is returned at once.
func (r *Registry) awaitReady(ctx context.Context) error {
	for {
		r.state.Lock()
		ready, failure, changed := r.ready, r.failure, r.changed
		r.state.Unlock()
		switch {
		case ready:
			return nil
		case failure != nil && tenant.Permanent(failure):
			return failure
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			if failure != nil {
				return fmt.Errorf("%w: %w", ctx.Err(), failure)
			}
			return fmt.Errorf("%w: NATS is %s", ctx.Err(), r.opt.nc.Status())
		}
	}
}

// read is sight of what the view saw, of which the value is not kept.
func (r *Registry) read(ch watcher.Change) *sighting {
	s := r.sight(ch)
	s.Value = nil
	return s
}

// sightings are what read made of changes.
func (r *Registry) sightings(changes []watcher.Change) []*sighting {
	seen := make([]*sighting, len(changes))
	for i, ch := range changes {
		s, ok := ch.Read.(*sighting)
		if !ok {
			s = r.read(ch)
		}
		seen[i] = s
	}
	return seen
}

// apply takes what the view saw.
func (r *Registry) apply(changes []watcher.Change, snapshot *watcher.Snapshot) {
	seen := r.sightings(changes)
	r.cache.apply(seen, snapshot)
	r.checkLease(snapshot)
	for _, g := range r.own.see(r.id, seen, snapshot, r.view) {
		r.tellFenced(g)
	}
}

// applyLines takes what the lines' view saw. A ticket of this process that stands in line again is removed again: a server that was killed may bring back what was deleted, once what said so
// has ended, and the process's lease would keep it there.
func (r *Registry) applyLines(changes []watcher.Change, snapshot *watcher.Snapshot) {
	for _, t := range r.lines.apply(changes, snapshot) {
		if !r.goUnlessClosed(&r.wg, func() { r.quit(t) }) { // ends with r.ctx; Close waits
			r.lines.leave(t, ErrClosed)
		}
	}
	r.checkLease(snapshot)
}

// checkLease has it seen whether the lease is there, where a bucket was made anew; and whoever held a name in the one before may not know yet, be it that this process was in no line.
func (r *Registry) checkLease(snapshot *watcher.Snapshot) {
	if snapshot != nil && snapshot.Reset {
		r.lines.restart()
		r.keeper.Check()
	}
}

// leaseLost tells whoever asked.
func (r *Registry) leaseLost(_ *lease.Lease, err error) {
	r.tellOwn(Event{Kind: LeaseLost, Err: err}, func() {
		for _, f := range r.opt.onLeaseLost {
			f(err)
		}
	})
}

func (r *Registry) tellFenced(s Service) {
	err := fmt.Errorf("%w: %q of service %q", ErrFenced, s.ID, s.Name)
	r.tellOwn(Event{Kind: Fenced, Service: s, Err: err}, func() {
		r.opt.logger.Warn("kvregistry: a newer registration of the same id took over",
			"service", plain(s.Name), "instance", plain(s.ID))
		for _, f := range r.opt.onFenced {
			f(s)
		}
	})
}

// tellOwn tells of something that happened to this process, without waiting for who is told.
func (r *Registry) tellOwn(e Event, callbacks func()) {
	if r.events != nil {
		r.events.add(e)
	}
	r.goUnlessClosed(&r.calls, callbacks)
}

// Lease is the lease that this process's registrations live by, or nil where there is none: before the
// first registration, and after a loss until a new one is granted. Its Done channel closes when it is over.
func (r *Registry) Lease() *lease.Lease { return r.keeper.Current() }

// Logger is the one that the registry was given, for what is built on it.
func (r *Registry) Logger() *slog.Logger { return r.opt.logger }

// Observe starts the watch of a service, so that the first look-up does not have to wait for it; it does
// not wait itself. With [Everything] it watches all services of the tenant. The error wraps
// [ErrInvalidService] or [ErrClosed].
func (r *Registry) Observe(name string) error {
	if r.closed.Load() {
		return fmt.Errorf("kvregistry: %w", ErrClosed)
	}
	if name != Everything {
		if err := checkName(name); err != nil {
			return fmt.Errorf("kvregistry: %w", err)
		}
	}
	r.need(name)
	r.observe(name)
	return nil
}

// need notes a name without which the process is not ready: one that Observe or Lookup was given,
// or that was looked up before the bucket was checked. A name that is looked up later is not
// needed, or one look-up of a new name during an outage would make the process not ready.
func (r *Registry) need(name string) {
	r.state.Lock()
	defer r.state.Unlock()
	r.needs[name] = struct{}{}
}

// needed are those of some names that need noted.
func (r *Registry) needed(names []string) (list []string) {
	r.state.Lock()
	defer r.state.Unlock()
	for _, name := range names {
		if _, ok := r.needs[name]; ok {
			list = append(list, name)
		}
	}
	return list
}

// checked reports whether the bucket was checked.
func (r *Registry) checked() bool {
	r.state.Lock()
	defer r.state.Unlock()
	return r.ready
}

// ObserveContext is [Registry.Observe], and waits for the first snapshot until ctx ends.
func (r *Registry) ObserveContext(ctx context.Context, name string) error {
	if err := r.Observe(name); err != nil {
		return err
	}
	filter := tenant.AllServices
	if svc := r.cache.find(name); name != Everything && svc != nil {
		filter = svc.filter
	}
	if err := r.awaitReady(ctx); err != nil {
		return fmt.Errorf("kvregistry: service %q: %w: %w", name, ErrUnavailable, err)
	}
	if err := r.view.Wait(ctx, filter); err != nil {
		return fmt.Errorf("kvregistry: service %q: %w: %w", name, ErrUnavailable, err)
	}
	return nil
}

func (r *Registry) observe(name string) *service {
	svc := r.cache.observe(name)
	if svc == nil {
		r.view.Watch(tenant.AllServices)
		return nil
	}
	r.view.Watch(svc.filter)
	return svc
}

// Close deregisters everything that this registry registered, ends what it holds exclusively, gives its lease back and stops every watch. It
// leaves the connection open. Called again, it does nothing.
//
// Where the server can't be reached within 5 s, the error says so: the registrations then go when the lease
// has run out.
func (r *Registry) Close() error {
	return bounded(r.CloseContext)
}

// CloseContext is [Registry.Close] with a context in place of the 5 s.
func (r *Registry) CloseContext(ctx context.Context) error {
	if r.closed.Swap(true) {
		return nil
	}
	holdErr := r.lines.close(ctx)
	endErr := r.endAll(ctx)
	endErr = errors.Join(holdErr, endErr)
	keepErr := r.keeper.Close(ctx, endErr == nil)
	callErr := r.stop(ctx)
	if err := errors.Join(endErr, keepErr); err != nil {
		return fmt.Errorf("kvregistry: closed, but what it registered stays for up to %s: %w", r.opt.ttl, err)
	}
	return callErr
}

// Leave is [Registry.Close] for who has a successor: what this registry registered stays until its lease runs out, up to a TTL from now, and whoever
// registers the same ids before takes over without a moment in which they are gone. What it holds exclusively ends. It asks no server but for that; ctx bounds it, and the
// wait for functions given to OnEvent, OnHealth, OnLeaseLost or OnFenced.
func (r *Registry) Leave(ctx context.Context) error {
	if r.closed.Swap(true) {
		return nil
	}
	holdErr := r.lines.close(ctx)
	_ = r.keeper.Close(ctx, false) // it revokes nothing, so nothing can fail
	return errors.Join(wrap("leave", holdErr), r.stop(ctx))
}

// stop ends what runs in a registry that is closed.
func (r *Registry) stop(ctx context.Context) error {
	r.life.Lock()
	r.cancel()
	r.life.Unlock()
	var parts sync.WaitGroup
	for _, end := range []func(){r.reaper.Close, r.view.Close, r.lines.view.Close} {
		parts.Go(end)
	}
	parts.Wait()
	r.wg.Wait()
	if r.file != nil {
		r.saveFile()
	}
	return r.awaitCalls(ctx)
}

// callsEnd is the time that goroutines have to end in which no function of the user's runs, where ctx leaves none.
const callsEnd = 100 * time.Millisecond

// awaitCalls waits for the user's functions, which may take their time.
func (r *Registry) awaitCalls(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // ends when the last of them returns
		defer close(done)
		r.calls.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-done:
		return nil
	case <-time.After(callsEnd):
		return fmt.Errorf("kvregistry: closed, but a function given to OnEvent, OnHealth, OnLeaseLost or OnFenced has not returned: %w", ctx.Err())
	}
}
