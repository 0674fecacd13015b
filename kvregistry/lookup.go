package kvregistry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/kvregistry/go/kvregistry/internal/plist"
	"github.com/kvregistry/go/tenant"
)

// GetServices returns the instances of a service that the filters let through: a slice of the caller's own,
// ordered by id. Without [WithStatus] these are the passing ones, and where there are none, the
// warning ones.
//
// The first look-up of a service starts its watch and waits, until ctx ends or for [Timeout] where it has no
// deadline, for a first consistent snapshot; if ctx has ended before the call, it starts no watch.
// After that it is a read of memory, whatever ctx says. The error wraps
// [ErrNotFound] where there is no instance, [ErrUnavailable] where that is not known, [ErrStale] where what is known is
// older than [MaxStale], [ErrInvalidService] or [ErrClosed].
func (r *Registry) GetServices(ctx context.Context, name string, filters ...Filter) ([]Service, error) {
	_, snap, err := r.lookFresh(ctx, name)
	if err != nil {
		return nil, err
	}
	list := snap.chosen(filters)
	if len(list) == 0 {
		return nil, r.notFound(snap, filters)
	}
	return list, nil
}

// chosen are the instances that the filters let through: a slice of the caller's own, nil where there are none.
func (s *Snapshot) chosen(filters []Filter) []Service {
	from := s.choice(filters)
	n := s.list.Count(from)
	if len(filters) > 0 {
		n = s.matching(from, filters)
	}
	if n == 0 {
		return nil
	}
	list := make([]Service, 0, n)
	for one := range s.list.Each(from) {
		if matches(filters, one) {
			list = append(list, *one)
		}
	}
	return list
}

// GetService returns one of the instances that [Registry.GetServices] would return. A goroutine's successive calls without filters
// go through them in turn, unless another one takes its turns in between; all goroutines' calls together are spread evenly, to within 32 calls.
// With filters, each is as likely as the others.
func (r *Registry) GetService(name string, filters ...Filter) (Service, error) {
	s, err := r.pick(context.Background(), name, filters)
	if err != nil {
		return Service{}, err
	}
	return *s, nil
}

// GetServiceContext is [Registry.GetService] with a context for the first look-up's wait.
func (r *Registry) GetServiceContext(ctx context.Context, name string, filters ...Filter) (Service, error) {
	s, err := r.pick(ctx, name, filters)
	if err != nil {
		return Service{}, err
	}
	return *s, nil
}

// pick chooses the instance. Its callers are alike to the letter: what they would share costs a second copy of it, a quarter of a look-up's time.
func (r *Registry) pick(ctx context.Context, name string, filters []Filter) (*Service, error) {
	// What most calls are is here once more, without the calls that look makes: they are a tenth of the time.
	if svc := r.cache.find(name); svc != nil && len(filters) == 0 && r.opt.maxStale == 0 && !r.closed.Load() {
		if snap, turns := svc.snap.Load(), svc.turns.Load(); snap != nil && turns != nil && len(snap.few) > 0 {
			return snap.few[turns.Next()%uint32(len(snap.few))], nil
		}
	}
	svc, snap, err := r.lookFresh(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(filters) > 0 {
		if s := snap.any(filters); s != nil {
			return s, nil
		}
		return nil, r.notFound(snap, filters) // or a filter changed its mind
	}
	if few := snap.few; len(few) > 0 {
		return few[svc.turn()%uint32(len(few))], nil
	}
	n := snap.list.Count(snap.callable)
	if n == 0 {
		return nil, r.notFound(snap, nil)
	}
	return snap.list.At(snap.callable, int(svc.turn()%uint32(n))), nil
}

// any is one of the instances that the filters let through, each as likely as the others: a turn
// that look-ups with other filters take too would not be even for each. It is nil if there is none.
func (s *Snapshot) any(filters []Filter) *Service {
	from := s.choice(filters)
	if n := s.matching(from, filters); n > 0 {
		turn := rand.N(n)
		for one := range s.list.Each(from) {
			if matches(filters, one) {
				if turn == 0 {
					return one
				}
				turn--
			}
		}
	}
	return nil
}

// matching is how many instances the filters let through.
func (s *Snapshot) matching(from plist.Class, filters []Filter) (n int) {
	for one := range s.list.Each(from) {
		if matches(filters, one) {
			n++
		}
	}
	return n
}

// Snapshot returns the immutable view of a service without copying it: every instance, of every status. It
// waits as [Registry.GetServices] does, and may be empty.
func (r *Registry) Snapshot(name string) (*Snapshot, error) {
	_, snap, err := r.look(context.Background(), name)
	return snap, err
}

// SnapshotContext is [Registry.Snapshot] with a context for the first look-up's wait.
func (r *Registry) SnapshotContext(ctx context.Context, name string) (*Snapshot, error) {
	_, snap, err := r.look(ctx, name)
	return snap, err
}

// lookFresh is look for who must not be shown a view that is older than MaxStale.
func (r *Registry) lookFresh(ctx context.Context, name string) (*service, *Snapshot, error) {
	svc, snap, err := r.look(ctx, name)
	if err != nil || r.opt.maxStale == 0 {
		return svc, snap, err
	}
	if age := snap.Age(); age > r.opt.maxStale {
		return nil, nil, fmt.Errorf("kvregistry: service %q: %w: the server last confirmed it %s ago, and MaxStale is %s",
			name, ErrStale, age.Round(time.Millisecond), r.opt.maxStale)
	}
	return svc, snap, nil
}

// look finds a service's current snapshot in memory, or has it read.
func (r *Registry) look(ctx context.Context, name string) (*service, *Snapshot, error) {
	if svc := r.cache.find(name); svc != nil && !r.closed.Load() {
		if snap := svc.snap.Load(); snap != nil {
			if snap.Len() == 0 && r.cache.full.Load() {
				return nil, nil, fmt.Errorf("kvregistry: service %q: %w: %w", name, ErrUnavailable, errMemory)
			}
			return svc, snap, nil
		}
	}
	return r.firstLook(ctx, name)
}

// firstLook starts the watch of a service and waits for its first snapshot.
func (r *Registry) firstLook(ctx context.Context, name string) (*service, *Snapshot, error) {
	if r.closed.Load() {
		return nil, nil, fmt.Errorf("kvregistry: %w", ErrClosed)
	}
	if err := checkName(name); err != nil {
		return nil, nil, fmt.Errorf("kvregistry: %w", err)
	}
	if r.cache.sees(Everything) {
		svc := r.cache.none(name)
		if svc == nil && r.cache.full.Load() {
			return nil, nil, fmt.Errorf("kvregistry: service %q: %w: %w", name, ErrUnavailable, errMemory)
		}
		if svc == nil {
			return nil, nil, fmt.Errorf("kvregistry: service %q: %w: %w", name, ErrUnavailable, errMore)
		}
		return svc, svc.snap.Load(), nil
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("kvregistry: service %q: %w: %w", name, ErrUnavailable, err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.opt.timeout)
		defer cancel()
	}
	if !r.checked() {
		r.need(name)
	}
	svc := r.observe(name)
	old := r.archive.old(name)
	if old != nil && r.away() {
		return svc, old, nil
	}
	err := r.awaitReady(ctx)
	if err == nil {
		err = r.view.Wait(ctx, svc.filter)
	}
	if snap := svc.snap.Load(); snap != nil {
		return svc, snap, nil
	}
	if r.closed.Load() {
		return nil, nil, fmt.Errorf("kvregistry: %w", ErrClosed)
	}
	if old != nil && errors.Is(err, context.DeadlineExceeded) {
		return svc, old, nil
	}
	return nil, nil, fmt.Errorf("kvregistry: service %q: %w: %w", name, ErrUnavailable, cmp.Or(err, errMore))
}

// away reports whether there is no use in waiting for a first snapshot, as far as is known.
func (r *Registry) away() bool {
	err := r.fault()
	return !r.opt.nc.IsConnected() || err != nil && !tenant.Permanent(err)
}

// newBucket is the age up to which a bucket may be there by mistake.
const newBucket = 10 * time.Minute

// absent is ErrNotFound with the tenant's name. It tells of a bucket that this registry has just
// made: the tenant may be another than was meant.
func (r *Registry) absent() error {
	age := time.Since(r.bucket.Made())
	if age > newBucket {
		return fmt.Errorf("%w in tenant %q", ErrNotFound, r.opt.tenant)
	}
	return fmt.Errorf("%w in tenant %q, which had no bucket: this registry made it %s ago; is the tenant's name right?",
		ErrNotFound, r.opt.tenant, age.Round(time.Millisecond))
}

func (r *Registry) notFound(snap *Snapshot, filters []Filter) error {
	err := fmt.Errorf("kvregistry: service %q: %w", snap.name, r.absent())
	switch {
	case snap.Len() == 0:
		return err
	case len(filters) == 0:
		return fmt.Errorf("%w: none of the %d registered is passing or warning", err, snap.Len())
	default:
		return fmt.Errorf("%w: none of the %d registered passes the filters", err, snap.Len())
	}
}
