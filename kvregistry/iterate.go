package kvregistry

import (
	"context"
	"fmt"
	"iter"
)

// Events is [Registry.Watch] as an iterator: it yields the changes of a service until the loop is
// left. It ends with an error, and the zero Event: ctx's, or one that wraps [ErrInvalidService] or
// [ErrClosed]. Each loop over it begins with what is there, and observes the service until its end.
func (r *Registry) Events(ctx context.Context, name string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := r.follow(ctx, name); err != nil {
			yield(Event{}, err)
			return
		}
		defer r.release(name, true)
		q := newQueue(&r.cache.merged)
		r.cache.subscribe(name, q)
		defer r.cache.unsubscribe(name, q)
		for {
			e, ok := q.Next(ctx, r.ctx)
			if !ok {
				yield(Event{}, r.over(ctx))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Snapshots yields the snapshots of a service, the current one first, whatever ctx says, or the
// first one as soon as it was read, and then the newest after each change: a slow reader
// misses those in between. It ends as [Registry.Events] does. Name can't be [Everything].
func (r *Registry) Snapshots(ctx context.Context, name string) iter.Seq2[*Snapshot, error] {
	return func(yield func(*Snapshot, error) bool) {
		if err := checkName(name); err != nil {
			yield(nil, fmt.Errorf("kvregistry: %w", err))
			return
		}
		if err := r.follow(ctx, name); err != nil {
			yield(nil, err)
			return
		}
		defer r.release(name, true)
		newest(ctx, r, name, func() *Snapshot { return r.cache.known(name) },
			func(a, b *Snapshot) bool { return a.list == b.list }, yield)
	}
}

// newest yields what load returns, now and after each change of a name, until the loop is left. It
// leaves out nil, and what is the same as the last one.
func newest[T any](ctx context.Context, r *Registry, name string, load func() *T,
	same func(a, b *T) bool, yield func(*T, error) bool) {
	q := newBell()
	r.cache.subscribe(name, q)
	defer r.cache.unsubscribe(name, q)
	var last *T
	for {
		now := load()
		ended := ctx.Err() != nil || r.ctx.Err() != nil
		switch {
		case now != nil && (last == nil || !ended && !same(now, last)):
			if last = now; !yield(now, nil) {
				return
			}
		case ended:
			yield(nil, r.over(ctx))
			return
		default:
			select {
			case <-q.Woken():
			case <-ctx.Done():
			case <-r.ctx.Done():
			}
		}
	}
}

// WaitFor waits until at least n instances of a service are there that the filters let through, and
// returns them as [Registry.GetServices] does, except for [MaxStale], which is for look-ups. It
// waits until ctx ends: the error then wraps ctx's, and [ErrNotFound] if there are too few, or
// [ErrUnavailable] if that is not known. It wraps [ErrInvalidService] if n is not positive or the
// name is none, or [ErrClosed].
func (r *Registry) WaitFor(ctx context.Context, name string, n int,
	filters ...Filter) ([]Service, error) {
	if n < 1 {
		return nil, fmt.Errorf("kvregistry: wait for %d instances of %q: %w: wait for one at the "+
			"least", n, name, ErrInvalidService)
	}
	if !r.cache.observesAll() { // as a look-up that waits
		if err := r.observeFor(ctx, name); err != nil {
			return nil, err
		}
	}
	found, why := 0, ErrUnavailable
	for snap, err := range r.Snapshots(ctx, name) {
		if err != nil && ctx.Err() != nil {
			return nil, fmt.Errorf("kvregistry: wait for %d instances of %q, %d are there: %w: %w",
				n, name, found, why, ctx.Err())
		} else if err != nil {
			return nil, err
		}
		list := snap.chosen(filters)
		if found, why = len(list), r.absent(snap.Len()); found >= n {
			return list, nil
		}
	}
	return nil, nil // not reached: the iterator ends with an error
}
