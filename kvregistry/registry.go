package kvregistry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/kvregistry/internal/claim"
	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/lease/line"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// Registry registers and finds the services of one tenant. All of its methods may be called by any
// number of goroutines.
type Registry struct {
	observer
	notices
	id     string // this registry's, in the records that it writes
	keeper *lease.Keeper
	reaper *lease.Reaper // takes no slot if others are to reap
	own    *claim.Owner[Service]
	owned  *owned
	lines  *line.Lines
	remote *remote
}

// New makes a registry on a connection, which stays the caller's: Close does not close it.
//
// It checks the server and the tenant's bucket, which it makes if there is none. Errors say what
// is wrong and what to do, and wrap [ErrNilConnection], [ErrConnectionClosed], [ErrInvalidOption],
// [ErrServerTooOld], [ErrJetStreamOff], [ErrPermission], [ErrStorageFull], [ErrBucketMismatch], or
// ctx's error. If the connection is not up yet, or is being made again, New returns at once, and
// all this is done as soon as it is; calls wait for it. So it is if the server does not answer
// until ctx ends, or for 10 s if it has no deadline, and a [SnapshotFile] has something to
// answer with meanwhile.
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
		return nil, fmt.Errorf("kvregistry: %w: New takes its connection as an argument; leave "+
			"out Nats", ErrInvalidOption)
	}
	o.nc = nc
	r, err := build(o)
	if err != nil {
		return nil, err
	}
	if nc.IsConnected() {
		err := r.provisionNow(ctx)
		if err == nil {
			startHealth(r)
			return r, nil
		}
		if tenant.Permanent(err) || !r.archive.knows() || errors.Is(ctx.Err(), context.Canceled) {
			_ = r.Close()
			return nil, fmt.Errorf("kvregistry: %w", err)
		}
	}
	r.goUnlessClosed(&r.wg, func() { // ends with r.ctx; Close waits
		_ = r.provision(r.ctx, false)
		r.own.Wake()
	})
	startHealth(r)
	return r, nil
}

// startHealth starts OnHealth's calls, when New can't fail any more.
func startHealth(r *Registry) {
	if r.opt.onHealth != nil {
		// Ends with r.ctx; Close waits for a moment.
		r.goUnlessClosed(&r.calls, func() { tellHealth(r.ctx, r, r.opt.onHealth) })
	}
}

// build makes the parts of a registry. It sends nothing.
func build(o options) (*Registry, error) {
	if o.nc == nil {
		return nil, fmt.Errorf("kvregistry: %w: pass one that nats.Connect returned",
			ErrNilConnection)
	}
	b, err := tenant.New(o.nc, o.tenant, o.bucket)
	if err != nil {
		return nil, fmt.Errorf("kvregistry: %w", err)
	}
	r := &Registry{id: rand.Text()}
	r.opt = o
	r.begin(o.logger)
	r.life, r.bucket, r.start, r.about = &r.lifetime, b, r.startParts, &r.observer
	if o.file != "" {
		if r.archive, err = openArchive(&o, r.log); err != nil {
			return nil, fmt.Errorf("kvregistry: %w", err)
		}
	}
	r.cache = newCache(r.log, o.bounds)
	r.own = newOwner(r)
	r.remote = newRemote(r)
	r.keeper, err = lease.NewKeeper(b, lease.KeeperConfig{
		TTL: o.ttl, Value: wire.Lease(r.id, o.ttl, time.Now(), r.remote.subject),
		Keyed: o.signer != nil, Begin: r.remote.begin, Granted: r.own.Wake, Lost: r.lost,
		Logger: r.log,
	})
	if err != nil {
		return nil, fmt.Errorf("kvregistry: %w", err)
	}
	r.reaper = lease.NewReaper(b, lease.ReaperConfig{
		TTL: o.ttl, Owner: r.id, LeaseOf: lifeOf, Steady: r.keeper.Steady, Check: o.checkTime(),
		StandBy: o.standBy, Logger: r.log,
	})
	watch := watcher.Config{Missing: r.ensure, Check: o.checkTime(), Logger: r.log,
		Heartbeat: o.heartbeat(), Patience: o.ttl}
	r.lines = line.New(b, r.keeper, line.Config{
		Owner: r.id, TTL: o.ttl, Check: o.checkTime(), View: watch,
		Journal: r.journal, Closed: ErrClosed, Pending: ErrPending,
	})
	watch.Apply, watch.Read = r.apply, func(ch watcher.Change) any { return r.read(ch) }
	watch.MaxValue, watch.MaxBytes = o.bounds.record, o.bounds.kept()
	r.view = watcher.New(b, watch)
	r.cache.view = r.view
	r.cache.filled = func() { r.goUnlessClosed(&r.wg, r.readAgain) } // ends with r.ctx; Close waits
	// ends with r.ctx; Close waits for a moment
	r.goUnlessClosed(&r.calls, func() { r.own.Run(r.ctx) })
	r.goUnlessClosed(&r.calls, r.tellNATS) // ends with r.closing; Close likewise
	if r.archive != nil {
		r.goUnlessClosed(&r.wg, func() { r.archive.keep(r.ctx, r.cache) }) // like filled
	}
	if o.onEvent != nil {
		r.events = newQueue(&r.cache.merged)
		r.cache.subscribe(Everything, r.events)
		r.goUnlessClosed(&r.calls, r.tellEvents) // likewise
	}
	return r, nil
}

// startParts finds out which leases are over, and starts what watches and reaps.
func (r *Registry) startParts(ctx context.Context) error {
	dead, err := r.reaper.Dead(ctx)
	// without the permission, it goes on
	if err != nil && !tenant.Permanent(err) && !r.bucket.HubAway(err) {
		return err
	}
	r.cache.bury(dead)
	if !r.unlessClosed(func() { r.reaper.Start(); r.view.Start() }) {
		return ErrClosed
	}
	return nil
}

// lost is told that the lease is lost.
func (r *Registry) lost(err error) {
	r.own.Wake()
	r.leaseLost(err)
}

// apply takes what the view saw.
func (r *Registry) apply(changes []watcher.Change, snapshot *watcher.Snapshot) {
	seen := r.sightings(changes)
	r.cache.apply(seen, snapshot)
	for i, s := range seen {
		changes[i].Again, changes[i].Forget = s.Again, s.Forget
	}
	r.checkLease(snapshot)
	r.owned.see(seen, snapshot)
}

// checkLease has the keeper verify its lease after the bucket was recreated. Holders in the old
// bucket may not know yet, so no name is granted for one TTL.
func (r *Registry) checkLease(snapshot *watcher.Snapshot) {
	if snapshot != nil && snapshot.Reset {
		r.lines.Restart()
		r.keeper.Check()
	}
}

func init() {
	inside.Lease = func(r any) *lease.Lease { return r.(*Registry).keeper.Current() }
	inside.Crash = func(ctx context.Context, r any) error { return crash(ctx, r.(*Registry)) }
}

// Logger is the one that the registry was given, for what is built on it.
func (r *Registry) Logger() *slog.Logger { return r.opt.logger }

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
		r.own.Shut()
		endErr := errors.Join(r.lines.Close(ctx), r.owned.endAll(ctx))
		keepErr := r.keeper.Close(ctx, endErr == nil && r.opt.nc.IsConnected())
		r.stop()
		if endErr != nil {
			return fmt.Errorf("kvregistry: closed, but what it registered stays for up to %s: %w",
				r.opt.ttl, errors.Join(endErr, keepErr))
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
		r.own.Shut()
		err := r.lines.Close(ctx)
		if len(r.RegisteredServices()) > 0 {
			r.journal.SayLater("kvregistry: left, what is registered stays until its lease ends", 1)
		}
		_ = r.keeper.Close(ctx, false) // it revokes nothing, so nothing can fail
		r.stop()
		return wrap("leave", err)
	})
}

// stop ends what runs in a registry that is closed.
func (r *Registry) stop() {
	r.unlessClosed(r.cancel)
	r.remote.end()
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
