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

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/lease/line"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// Registry registers and finds the services of one tenant. All of its methods may be called by any number
// of goroutines.
type Registry struct {
	opt     options
	id      string // this registry's, in the records that it writes
	bucket  *tenant.Bucket
	keeper  *lease.Keeper
	reaper  *lease.Reaper // takes no slot where others are to reap
	view    *watcher.View
	cache   *cache
	own     *owner
	archive *archive // of snapshots; nil if no file is kept
	lines   *line.Lines
	journal *journal.Journal
	log     *slog.Logger  // the journal's, for goroutines that a log handler must not hold up
	events  *queue        // of OnEvent; nil where it was not asked for
	crowd   chan struct{} // has a token for each single request for a registration that is under way

	ctx    context.Context // ends with Close, when everything is taken back
	cancel context.CancelFunc

	toldMade atomic.Int64 // when the bucket was made that the log tells of

	refusing bool // the log says that a registration is refused; reconcile's own

	closed  atomic.Bool
	closing context.Context // ends when closed is set: see whileOpen
	shut    context.CancelFunc
	ended   chan struct{} // closed when Close or Leave is through but for the user's functions
	endErr  error         // what that came to; set before ended is closed

	life  sync.Mutex     // guards wg and calls against a Close at the same time
	wg    sync.WaitGroup // the registry's own goroutines
	calls sync.WaitGroup // those in which the user's functions run

	state   sync.Mutex          // guards what follows
	changed bell.Broadcast      // ready or failure changed
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
//
// If ctx has ended before the call, the error wraps ctx's.
func New(ctx context.Context, nc *nats.Conn, opts ...Option) (*Registry, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("kvregistry: new: %w", err)
	}
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
		if tenant.Permanent(err) || !r.archive.knows() || errors.Is(ctx.Err(), context.Canceled) {
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
		opt: o, id: rand.Text(), bucket: b, own: newOwner(), crowd: make(chan struct{}, crowd),
		needs: map[string]struct{}{},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.closing, r.shut = context.WithCancel(r.ctx)
	r.ended = make(chan struct{})
	r.journal = journal.New(o.logger)
	r.log = r.journal.Logger()
	if o.file != "" {
		if r.archive, err = openArchive(&o, r.log); err != nil {
			return nil, fmt.Errorf("kvregistry: %w", err)
		}
	}
	r.cache = newCache(r.log, o.bounds)
	r.keeper, err = lease.NewKeeper(b, lease.KeeperConfig{
		TTL: o.ttl, Value: wire.Lease(r.id, o.ttl), Keyed: o.signer != nil, Granted: r.own.wakeUp, Lost: r.leaseLost, Logger: r.log,
	})
	if err != nil {
		return nil, fmt.Errorf("kvregistry: %w", err)
	}
	r.reaper = lease.NewReaper(b, lease.ReaperConfig{
		TTL: o.ttl, Owner: r.id, LeaseOf: lifeOf, Steady: r.keeper.Steady, Check: o.checkTime(), StandBy: o.standBy, Logger: r.log,
	})
	watch := watcher.Config{Missing: r.ensure, Check: o.checkTime(), Logger: r.log, Heartbeat: o.heartbeat(), Patience: o.ttl}
	r.lines = line.New(b, r.keeper, line.Config{
		Owner: r.id, TTL: o.ttl, Check: o.checkTime(), View: watch, Write: r.write, Journal: r.journal,
		Closed: ErrClosed, Pending: ErrPending,
	})
	watch.Apply, watch.Read = r.apply, func(ch watcher.Change) any { return r.read(ch) }
	watch.MaxValue, watch.MaxBytes = o.bounds.record, o.bounds.kept()
	r.view = watcher.New(b, watch)
	r.cache.view = r.view
	r.cache.filled = func() { r.goUnlessClosed(&r.wg, r.readAgain) } // ends with r.ctx; Close waits
	r.goUnlessClosed(&r.calls, r.reconcile)                          // calls the signer; ends with r.ctx; Close waits for a moment
	r.goUnlessClosed(&r.calls, r.tellNATS)                           // ends with r.closing; likewise
	if r.archive != nil {
		r.goUnlessClosed(&r.wg, func() { r.archive.keep(r.ctx, r.cache) }) // ends with r.ctx; Close waits
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

// whileOpen is ctx for a call that waits: it ends when the registry is closed, too.
func (r *Registry) whileOpen(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.closing, cancel)
	return ctx, func() { stop(); cancel() }
}

// orClosed is a call's error, or [ErrClosed] if Close got in the way of the call.
func (r *Registry) orClosed(err error) error {
	if r.closed.Load() && (errors.Is(err, ErrNotRegistered) || errors.Is(err, ErrPending) || errors.Is(err, context.Canceled)) {
		return ErrClosed
	}
	return err
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

// provisionCurve is the time between two tries of provision.
var provisionCurve = backoff.Curve{Least: 50 * time.Millisecond, Most: 2 * time.Second}

// provision checks the server and the bucket, finds out who was dead before, and starts what watches and
// reaps. It tries again until ctx ends; with once, a fault that stays is the end of it.
func (r *Registry) provision(ctx context.Context, once bool) error {
	told := false // that it is refused
	for n := 0; ; n++ {
		err := r.prepare(ctx)
		if err == nil {
			if told {
				r.journal.SayLater("kvregistry: the bucket can be used now", 1)
			}
			for _, advice := range r.bucket.Advice() {
				r.log.Warn("kvregistry: the server or the bucket should be changed", "advice", advice)
			}
			return nil
		}
		r.setState(false, err)
		if once && tenant.Permanent(err) {
			return err
		}
		if !once && !told && refuses(err) {
			told = true
			r.log.Warn("kvregistry: the bucket can't be used, trying again", "cause", journal.Plain(err.Error()))
		}
		switch over := backoff.SleepOr(ctx, provisionCurve.After(n), r.ctx.Done()); {
		case r.ctx.Err() != nil:
			return ErrClosed
		case over != nil:
			return err
		}
	}
}

func (r *Registry) prepare(ctx context.Context) error {
	if err := r.ensure(ctx); err != nil {
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
	r.reaper.Start()
	r.view.Start()
	r.setState(true, nil)
	return nil
}

// ensure is the bucket's Ensure, and tells if it made the bucket: the tenant may be another than
// was meant.
func (r *Registry) ensure(ctx context.Context) error {
	err := r.bucket.Ensure(ctx)
	if made := r.bucket.Made(); !made.IsZero() && r.toldMade.Swap(made.UnixNano()) != made.UnixNano() {
		r.journal.SayLater("kvregistry: the tenant had no bucket, made one", 1, "bucket", r.bucket.Name())
	}
	return err
}

func (r *Registry) setState(ready bool, failure error) {
	r.state.Lock()
	defer r.state.Unlock()
	r.ready, r.failure = ready, failure
	r.changed.Send()
}

// awaitReady waits until the bucket was checked. A fault that stays is returned at once.
func (r *Registry) awaitReady(ctx context.Context) error {
	for {
		r.state.Lock()
		ready, failure, changed := r.ready, r.failure, r.changed.Next()
		r.state.Unlock()
		switch {
		case ready:
			return nil
		case failure != nil && tenant.Permanent(failure):
			return failure
		}
		select {
		case <-changed:
		case <-r.closing.Done():
			return ErrClosed
		case <-ctx.Done():
			if failure != nil {
				return fmt.Errorf("%w: %w", ctx.Err(), failure)
			}
			if why := r.bucket.Disconnected(); why != nil {
				return fmt.Errorf("%w: %w", ctx.Err(), why)
			}
			return r.bucket.Blame(ctx.Err())
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

// checkLease has the keeper verify its lease after the bucket was recreated. Holders in the old bucket
// may not know yet, so no name is granted for one TTL.
func (r *Registry) checkLease(snapshot *watcher.Snapshot) {
	if snapshot != nil && snapshot.Reset {
		r.lines.Restart()
		r.keeper.Check()
	}
}

// leaseLost tells whoever asked.
func (r *Registry) leaseLost(err error) {
	if r.events != nil {
		add(r.events, Event{Kind: LeaseLost, Err: err})
	}
	r.goUnlessClosed(&r.calls, func() { tell(r, r.opt.onLeaseLost, err) })
}

func (r *Registry) tellFenced(s Service) {
	err := fmt.Errorf("%w: %q of service %q", ErrFenced, s.ID, s.Name)
	if r.events != nil {
		add(r.events, Event{Kind: Fenced, Service: s, Err: err})
	}
	r.goUnlessClosed(&r.calls, func() {
		r.log.Warn("kvregistry: a newer registration of the same id took over",
			"service", journal.Plain(s.Name), "instance", journal.Plain(s.ID))
		tell(r, r.opt.onFenced, s)
	})
}

// tell calls the user's functions, one after the other, until the registry is closed: one of them
// may close it.
func tell[T any](r *Registry, functions []func(T), what T) {
	for _, f := range functions {
		if r.ctx.Err() != nil {
			return
		}
		f(what)
	}
}

func init() {
	inside.Lease = func(r any) *lease.Lease { return r.(*Registry).keeper.Current() }
}

// Logger is the one that the registry was given, for what is built on it.
func (r *Registry) Logger() *slog.Logger { return r.opt.logger }

// Observe starts the watch of a service, so that the first look-up does not have to wait for it; it does
// not wait itself. With [Everything] it watches all services of the tenant. The error wraps
// [ErrInvalidService] or [ErrClosed].
func (r *Registry) Observe(name string) error {
	return r.observeFor(context.Background(), name)
}

// observeFor is Observe for a call with a context: if that has ended before the call, it starts no
// watch.
func (r *Registry) observeFor(ctx context.Context, name string) error {
	if r.closed.Load() {
		return fmt.Errorf("kvregistry: %w", ErrClosed)
	}
	if name != Everything {
		if err := checkName(name); err != nil {
			return fmt.Errorf("kvregistry: %w", err)
		}
	}
	if ctx.Err() == nil {
		r.need(name)
		r.observe(name)
	}
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

// ObserveContext is [Registry.Observe], and waits for the first snapshot until ctx ends. If ctx has
// ended before the call, it starts no watch.
func (r *Registry) ObserveContext(ctx context.Context, name string) error {
	if err := r.observeFor(ctx, name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("kvregistry: service %q: %w: %w", name, ErrUnavailable, err)
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

// Close deregisters everything that this registry registered, ends what it holds exclusively, gives
// its lease back and stops every watch. It leaves the connection open. Calls that wait return
// [ErrClosed]. Called again, it waits for the first call and returns its error.
//
// If the server does not answer within 5 s, the error says so: the registrations then go when the
// lease has run out. If nothing was sent to the server, there is nothing to wait for.
//
// Any function that was given to the registry may call Close. Once it has returned, no function
// given to OnEvent, OnHealth, OnLeaseLost or OnFenced is called any more. One that runs may go on:
// Close waits for it for up to 100 ms only, since it may be the one that waits for Close.
func (r *Registry) Close() error {
	return bounded(r.CloseContext)
}

// CloseContext is [Registry.Close] with a context in place of the 5 s. If another call closes the
// registry, and ctx ends first, the error wraps ctx's.
func (r *Registry) CloseContext(ctx context.Context) error {
	return r.finish(ctx, func() error {
		endErr := errors.Join(r.lines.Close(ctx), r.endAll(ctx))
		keepErr := r.keeper.Close(ctx, endErr == nil && r.opt.nc.IsConnected())
		r.stop()
		if endErr != nil {
			return fmt.Errorf("kvregistry: closed, but what it registered stays for up to %s: %w", r.opt.ttl, errors.Join(endErr, keepErr))
		}
		return nil // a lease that nothing lives by ends by itself
	})
}

// Leave is [Registry.Close] for a registry that has a successor. What this one registered stays
// until its lease runs out, up to a TTL from now. A successor that registers the same ids before
// then takes over without a moment in which they are gone. What this registry holds exclusively
// ends; the server is asked for nothing else, and ctx bounds the wait for it.
func (r *Registry) Leave(ctx context.Context) error {
	return r.finish(ctx, func() error {
		err := r.lines.Close(ctx)
		if r.own.any() {
			r.journal.SayLater("kvregistry: left, what is registered stays until its lease ends", 1)
		}
		_ = r.keeper.Close(ctx, false) // it revokes nothing, so nothing can fail
		r.stop()
		return wrap("leave", err)
	})
}

// finish ends the registry by f. If another call does so, it waits for that, or until ctx ends.
func (r *Registry) finish(ctx context.Context, f func() error) error {
	if r.closed.Swap(true) {
		select {
		case <-r.ended:
			return r.endErr
		case <-ctx.Done():
			return fmt.Errorf("kvregistry: another call closes the registry, and has not returned: %w", ctx.Err())
		}
	}
	r.shut()
	r.endErr = f()
	close(r.ended)
	ctx, cancel := context.WithTimeout(context.Background(), callsTime)
	defer cancel()
	r.awaitCalls(ctx)
	r.journal.Close(ctx)
	return r.endErr
}

// stop ends what runs in a registry that is closed.
func (r *Registry) stop() {
	r.life.Lock()
	r.cancel()
	r.life.Unlock()
	var parts sync.WaitGroup
	for _, end := range []func(){r.reaper.Close, r.view.Close, r.lines.Stop} {
		parts.Go(end)
	}
	parts.Wait()
	r.wg.Wait()
	if r.archive != nil {
		r.archive.save(r.cache)
	}
}

// callsTime is how long Close waits for the user's functions that run.
const callsTime = 100 * time.Millisecond

// awaitCalls waits for the user's functions that run, until ctx ends: one of them may wait for
// Close.
func (r *Registry) awaitCalls(ctx context.Context) {
	done := make(chan struct{})
	go func() { // ends when the last of them returns
		defer close(done)
		r.calls.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
