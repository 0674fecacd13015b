package kvregistry

import (
	"context"
	"math/rand/v2"

	"github.com/kvregistry/go/kvregistry/internal/plist"
)

// GetServices returns the instances of a service that the filters let through: a slice of the
// caller's own, ordered by id. Without [WithStatus] these are the passing ones, and if there are
// none, the warning ones.
//
// The first look-up of a service starts its watch and waits, until ctx ends or for [Timeout] if
// it has no deadline, for a first consistent snapshot; if ctx has ended before the call, it starts
// no watch. After that it is a read of memory, whatever ctx says. The error wraps [ErrNotFound]
// if there is no instance, [ErrUnavailable] if that is not known, [ErrStale] if what is
// known is older than [MaxStale], [ErrInvalidService] or [ErrClosed].
func (r *Registry) GetServices(ctx context.Context, name string,
	filters ...Filter) ([]Service, error) {
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

// chosen are the instances that the filters let through: a slice of the caller's own, nil if
// there are none.
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

// GetService returns one of the instances that [Registry.GetServices] would return. A goroutine's
// successive calls without filters go through them in turn, unless another one takes its turns in
// between; all goroutines' calls together are spread evenly, to within 32 calls. With filters, each
// is as likely as the others.
func (r *Registry) GetService(name string, filters ...Filter) (Service, error) {
	s, err := r.pick(context.Background(), name, filters)
	if err != nil {
		return Service{}, err
	}
	return *s, nil
}

// GetServiceContext is [Registry.GetService] with a context for the first look-up's wait.
func (r *Registry) GetServiceContext(ctx context.Context, name string,
	filters ...Filter) (Service, error) {
	s, err := r.pick(ctx, name, filters)
	if err != nil {
		return Service{}, err
	}
	return *s, nil
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

// Snapshot returns the immutable view of a service without copying it: every instance, of every
// status. It waits as [Registry.GetServices] does, and may be empty.
func (r *Registry) Snapshot(name string) (*Snapshot, error) {
	_, snap, err := r.look(context.Background(), name)
	return snap, err
}

// SnapshotContext is [Registry.Snapshot] with a context for the first look-up's wait.
func (r *Registry) SnapshotContext(ctx context.Context, name string) (*Snapshot, error) {
	_, snap, err := r.look(ctx, name)
	return snap, err
}
