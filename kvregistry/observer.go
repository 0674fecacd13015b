package kvregistry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// observer is the reading side of a registry: it keeps services in memory and answers look-ups from
// there.
type observer struct {
	lifetime
	provisioner
	opt     options
	view    *watcher.View
	cache   *cache
	archive *archive // of snapshots; nil if no file is kept

	observeMu sync.Mutex // keeps in step what the cache observes and what the view watches
}

// pick chooses the instance. Its callers are alike to the letter: what they would share costs a
// second copy of it, a quarter of a look-up's time.
func (o *observer) pick(ctx context.Context, name string, filters []Filter) (*Service, error) {
	// What most calls are is here once more, without the calls that look makes: they are a tenth of
	// the time.
	if svc := o.cache.find(name); svc != nil && len(filters) == 0 && o.opt.maxStale == 0 &&
		!o.closed.Load() {
		if snap, turns := svc.snap.Load(), svc.turns.Load(); snap != nil && turns != nil &&
			len(snap.few) > 0 {
			return snap.few[turns.Next()%uint32(len(snap.few))], nil
		}
	}
	svc, snap, err := o.lookFresh(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(filters) > 0 {
		if s := snap.any(filters); s != nil {
			return s, nil
		}
		return nil, o.notFound(snap, filters) // or a filter changed its mind
	}
	if few := snap.few; len(few) > 0 {
		return few[svc.turn()%uint32(len(few))], nil
	}
	n := snap.list.Count(snap.callable)
	if n == 0 {
		return nil, o.notFound(snap, nil)
	}
	return snap.list.At(snap.callable, int(svc.turn()%uint32(n))), nil
}

// lookFresh is look, and refuses a view that is older than MaxStale.
func (o *observer) lookFresh(ctx context.Context, name string) (*service, *Snapshot, error) {
	svc, snap, err := o.look(ctx, name)
	if err != nil || o.opt.maxStale == 0 {
		return svc, snap, err
	}
	if age := snap.Age(); age > o.opt.maxStale {
		return nil, nil, fmt.Errorf("kvregistry: service %q: %w: the server last confirmed it %s "+
			"ago, and MaxStale is %s",
			name, ErrStale, age.Round(time.Millisecond), o.opt.maxStale)
	}
	return svc, snap, nil
}

// look finds a service's current snapshot in memory, or has it read.
func (o *observer) look(ctx context.Context, name string) (*service, *Snapshot, error) {
	if svc := o.cache.find(name); svc != nil && !o.closed.Load() {
		if snap := svc.snap.Load(); snap != nil {
			if snap.Len() == 0 && o.cache.full.Load() {
				return nil, nil,
					fmt.Errorf("kvregistry: service %q: %w: %w", name, ErrUnavailable, errMemory)
			}
			return svc, snap, nil
		}
	}
	return o.firstLook(ctx, name)
}

// firstLook starts the watch of a service and waits for its first snapshot. If everything is
// observed, that is waited for, and the name is not kept: anybody may ask for any name.
func (o *observer) firstLook(ctx context.Context, name string) (*service, *Snapshot, error) {
	if o.closed.Load() {
		return nil, nil, fmt.Errorf("kvregistry: %w", ErrClosed)
	}
	if err := checkName(name); err != nil {
		return nil, nil, fmt.Errorf("kvregistry: %w", err)
	}
	old, watched := o.archive.old(name), name
	if o.cache.observesAll() {
		watched = Everything
	}
	stale, err := false, error(nil)
	if !o.cache.sees(Everything) {
		stale, err = o.awaitFirst(ctx, watched, old != nil)
	}
	switch svc := o.cache.lookedUp(name); {
	case svc != nil:
		return svc, svc.snap.Load(), nil
	case o.closed.Load():
		return nil, nil, fmt.Errorf("kvregistry: %w", ErrClosed)
	case stale:
		return cmp.Or(o.cache.find(name), &service{name: name}), old, nil
	case err == nil && o.cache.full.Load():
		err = errMemory
	}
	return nil, nil, fmt.Errorf("kvregistry: service %q: %w: %w", name, ErrUnavailable,
		cmp.Or(err, errMore))
}

// awaitFirst starts the watch of a name, or of [Everything], and waits for its first snapshot. It
// reports whether what the run before left is to be used instead, if left says that there is
// something.
func (o *observer) awaitFirst(ctx context.Context, name string, left bool) (stale bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.opt.timeout)
		defer cancel()
	}
	if ready, _ := o.state(); !ready {
		o.need(name)
	}
	filter := tenant.AllServices
	if svc := o.observe(name); svc != nil {
		filter = svc.filter
	}
	if left && o.away() {
		return true, nil
	}
	err = o.awaitReady(ctx)
	if err == nil {
		err = o.view.Wait(ctx, filter)
	}
	return left && errors.Is(err, context.DeadlineExceeded), err
}

// usable returns an error if nothing can be written any more, or ctx ended before the call that it
// is for: such a call does nothing.
func (o *observer) usable(ctx context.Context) error {
	if o.closed.Load() {
		return ErrClosed
	}
	if o.opt.nc.IsClosed() {
		return o.bucket.Disconnected()
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w before the call: nothing was done", err)
	}
	return nil
}

// away reports whether there is no use in waiting for a first snapshot, as far as is known.
func (o *observer) away() bool {
	err := o.fault()
	return !o.opt.nc.IsConnected() || err != nil && !tenant.Permanent(err)
}

// absent is ErrNotFound with the tenant's name. If the service has no instances at all, absent
// tells of a bucket that this registry has just made: the tenant may be another than was meant.
func (o *observer) absent(instances int) error {
	age := time.Since(o.bucket.Made())
	if instances > 0 || age > newBucket {
		return fmt.Errorf("%w in tenant %q", ErrNotFound, o.opt.tenant)
	}
	return fmt.Errorf("%w in tenant %q, which had no bucket: this registry made it %s ago; is "+
		"the tenant's name right?",
		ErrNotFound, o.opt.tenant, age.Round(time.Millisecond))
}

func (o *observer) notFound(snap *Snapshot, filters []Filter) error {
	err := fmt.Errorf("kvregistry: service %q: %w", snap.name, o.absent(snap.Len()))
	switch {
	case snap.Len() == 0:
		return err
	case len(filters) == 0:
		return fmt.Errorf("%w: none of the %d registered is passing or warning", err, snap.Len())
	default:
		return fmt.Errorf("%w: none of the %d registered passes the filters", err, snap.Len())
	}
}

// newBucket is the age up to which a bucket may be there by mistake.
const newBucket = 10 * time.Minute

// fault is why the bucket was not checked, or why the view has no session.
func (o *observer) fault() error {
	if ready, failure := o.state(); !ready {
		return failure
	}
	return o.view.Failure()
}

// age is how old the view is; -1 before its first snapshot.
func (o *observer) age() time.Duration {
	heard := o.view.Heard()
	if heard.IsZero() {
		return -1
	}
	return time.Since(heard)
}

// readAgain has everything read again while some of it does not fit into memory: when half of what
// was held is gone, and now and then.
func (o *observer) readAgain() {
	for n := 0; ; n++ {
		select {
		case <-time.After(readAgainCurve.After(n)):
		case <-o.cache.freed:
			n = 0
		case <-o.ctx.Done():
			return
		}
		if !o.cache.full.Load() {
			return
		}
		o.view.ReadAgain()
	}
}
