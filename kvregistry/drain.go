package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// DefaultSettle is the settle time of [Registry.Drain]. It is more than an observer takes that just lost its consumer, without a word from the server: up to
// 2.1 s until it notices, and a moment to read the bucket anew.
const DefaultSettle = 2500 * time.Millisecond

// lastTime is what Drain takes to unregister when its own time is over.
const lastTime = time.Second

// DrainOption sets something of a [Registry.Drain].
type DrainOption func(*draining) error

type draining struct {
	only   []func(g *registration) bool // one of them has to hold, where there are any
	settle time.Duration
	until  []func(context.Context) error
}

// Only drains this process's instances of a service, or, where ids are given, those of them. It may be given more than once. By default everything is drained that
// this registry has registered.
func Only(name string, ids ...string) DrainOption {
	return func(d *draining) error {
		if err := checkName(name); err != nil {
			return err
		}
		d.only = append(d.only, func(g *registration) bool {
			return g.name == name && (len(ids) == 0 || slices.Contains(ids, g.id))
		})
		return nil
	}
}

// Settle is the time from the server's word that instances are draining until it is taken that every observer knows, and that callers who looked one up before have
// begun their call. The default is [DefaultSettle].
func Settle(d time.Duration) DrainOption {
	return func(o *draining) error {
		if d < 0 {
			return fmt.Errorf("%w: Settle(%s); it must not be negative", ErrInvalidOption, d)
		}
		o.settle = d
		return nil
	}
}

// Until has Drain call f after the settle time, and unregister when f has returned: f waits for what is still under way, as http.Server's Shutdown does. An error of f is
// one of Drain, which unregisters all the same. f is to return when its context ends. Several are called one after the other.
func Until(f func(context.Context) error) DrainOption {
	return func(d *draining) error {
		if f == nil {
			return fmt.Errorf("%w: Until is nil", ErrInvalidOption)
		}
		d.until = append(d.until, f)
		return nil
	}
}

// Drain takes what this process registered out of the calls, in order. It marks its instances draining, by one write each, after which look-ups do not give them any more;
// waits for the settle time; waits for what [Until] gives; and unregisters them. The registry stays open.
//
// It leaves nothing half-done: when ctx ends, or something fails, it skips what is left of the waits and unregisters, within a second more. The error then wraps ctx's, f's, or what kept a write
// from being made. Where it wraps [ErrPending], NATS does not answer, and the instance that it names goes when it does, or when the lease has run out. While NATS
// is away the mark is waited for for 5 s, and Drain goes on without.
//
// Nothing registered is nothing to mark and to wait for, but Until's functions are called; with [Only] it is an error that wraps [ErrNotRegistered]. A bad option wraps [ErrInvalidOption] or
// [ErrInvalidService], and nothing is done.
func (r *Registry) Drain(ctx context.Context, opts ...DrainOption) error {
	d := draining{settle: DefaultSettle}
	for _, opt := range opts {
		if opt == nil {
			return fmt.Errorf("kvregistry: drain: %w: it is nil", ErrInvalidOption)
		}
		if err := opt(&d); err != nil {
			return fmt.Errorf("kvregistry: drain: %w", err)
		}
	}
	if err := r.usable(); err != nil {
		return fmt.Errorf("kvregistry: drain: %w", err)
	}
	list := r.own.those(func(g *registration) bool { return g.over == nil && !g.ending && d.takes(g) })
	if len(list) == 0 && len(d.only) > 0 {
		return fmt.Errorf("kvregistry: drain: %w", ErrNotRegistered)
	}
	marked := r.mark(ctx, list)
	waited := d.wait(ctx, len(list) > 0)
	return wrap("drain", errors.Join(marked, waited, r.endAfter(ctx, list)))
}

func (d *draining) takes(g *registration) bool {
	return len(d.only) == 0 || slices.ContainsFunc(d.only, func(is func(*registration) bool) bool { return is(g) })
}

// mark marks registrations draining.
func (r *Registry) mark(ctx context.Context, list []*registration) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	return each(list, func(g *registration) error {
		return g.left("mark", r.alter(ctx, g, func(s Service) (Service, error) {
			s.Status = Draining
			return s, nil
		}))
	})
}

// wait waits for the settle time, where there is something to settle, and for the user's functions. It ends with ctx.
func (d *draining) wait(ctx context.Context, settle bool) error {
	if settle {
		if err := pause(ctx, d.settle); err != nil {
			return fmt.Errorf("the settle time of %s was cut short: %w", d.settle, err)
		}
	}
	for _, f := range d.until {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("not waited for Until: %w", err)
		}
		done := make(chan error, 1)
		go func() { done <- f(ctx) }() // f ends with ctx, or is left behind: it must not keep what it drains registered
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("Until: %w", err)
			}
		case <-ctx.Done():
			return fmt.Errorf("waiting for Until: %w", ctx.Err())
		}
	}
	return nil
}

// endAfter takes registrations back, be ctx over.
func (r *Registry) endAfter(ctx context.Context, list []*registration) error {
	left := writeTime
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	if ctx.Err() != nil || left < lastTime {
		left = lastTime
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), left)
	defer cancel()
	return each(list, func(g *registration) error { return g.left("unregister", r.end(ctx, g)) })
}

// left says of which registration something is left to be done. One that a newer one took over is not this process's any more, nor is one that was taken back.
func (g *registration) left(what string, err error) error {
	if err == nil || errors.Is(err, ErrFenced) || errors.Is(err, ErrNotRegistered) {
		return nil
	}
	return fmt.Errorf("%s %q of service %q: %w", what, g.id, g.name, err)
}
