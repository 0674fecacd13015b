package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kvregistry/go/internal/backoff"
)

// DefaultSettle is the settle time of [Registry.Drain]. A change reaches an observer within
// milliseconds; the rest is for calls that begin a while after their look-up. An observer that just
// lost its consumer without a word from the server notices within half a TTL: set more if its calls
// must not fail either.
const DefaultSettle = 2500 * time.Millisecond

// lastTime is what Drain takes to unregister when its own time is over.
const lastTime = time.Second

// DrainOption sets something of a [Registry.Drain].
type DrainOption func(*draining) error

type draining struct {
	only   []only // an instance has to be of one of them, if there are any
	settle time.Duration
	until  []func(context.Context) error
}

// only is what one [Only] takes.
type only struct {
	name string
	ids  []string // any of them; none is each
}

func (o only) takes(s *Service) bool {
	return s.Name == o.name && (len(o.ids) == 0 || slices.Contains(o.ids, s.ID))
}

// Only drains this process's instances of a service, or, if ids are given, the instances with these
// ids. It may be given more than once. Without it Drain drains everything that this registry has
// registered.
func Only(name string, ids ...string) DrainOption {
	return func(d *draining) error {
		if err := checkName(name); err != nil {
			return err
		}
		d.only = append(d.only, only{name, ids})
		return nil
	}
}

// Settle is the time from the acknowledged mark until Drain goes on: the default is
// [DefaultSettle]. By then every observer should know the mark, and callers that looked an instance
// up before should have begun their call.
func Settle(d time.Duration) DrainOption {
	return func(o *draining) error {
		if d < 0 {
			return fmt.Errorf("%w: Settle(%s); it must not be negative", ErrInvalidOption, d)
		}
		o.settle = d
		return nil
	}
}

// Until has Drain call f after the settle time, and unregister when f has returned. f waits for the
// calls that are still under way, as http.Server's Shutdown does. An error of f is one of Drain,
// which goes on nevertheless. f must return when its context ends; Drain does not wait for what f
// does after that. Several functions are called one after the other. If f panics, Drain unregisters
// and then panics.
func Until(f func(context.Context) error) DrainOption {
	return func(d *draining) error {
		if f == nil {
			return fmt.Errorf("%w: Until is nil", ErrInvalidOption)
		}
		d.until = append(d.until, f)
		return nil
	}
}

// Drain takes what this process registered out of the calls, in order. It marks the instances
// draining, by one write each, after which look-ups do not give them any more. It waits for the
// settle time, and then for the functions of [Until]. Then it unregisters the instances. The
// registry stays open.
//
// Drain leaves nothing half-done. If ctx ends, or has ended before, Drain skips the rest of the
// waits and unregisters within another second. A step that fails does not stop the other steps. The
// error then wraps the error of ctx or of f, or what kept a write from being made. If it wraps
// [ErrPending], NATS did not answer in time: callers may not know the mark, or the instance that
// the error names goes when NATS answers or when the lease has run out. While NATS is away, Drain
// waits 5 s for the mark, and 5 s for the end, however late ctx ends.
//
// If nothing is registered any more Drain waits nevertheless, and calls the functions of [Until]:
// callers may have looked an instance up a moment before. The error then wraps [ErrNotRegistered]
// if [Only] asked for an instance, or [ErrClosed] or [ErrConnectionClosed]. A bad option wraps
// [ErrInvalidOption] or [ErrInvalidService], and nothing is done.
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
	list, unable := r.owned.drained(&d)
	claims := r.owned.claims(list) // what is registered meanwhile is another's to end
	var endErr error
	err := func() error {
		// even if a function of Until panics
		defer func() { endErr = r.owned.endAfter(ctx, claims) }()
		return errors.Join(r.owned.mark(ctx, list), d.wait(ctx))
	}()
	if err = errors.Join(err, endErr); err == nil {
		err = unable
	}
	return wrap("drain", err)
}

// drained are the registrations to drain, and why there are none where there should be.
func (w *owned) drained(d *draining) ([]*registration, error) {
	if err := w.r.usable(context.Background()); err != nil {
		return nil, err
	}
	list := w.r.own.Declared(d.takes)
	if len(list) == 0 && len(d.only) > 0 {
		var asked []string
		for _, o := range d.only {
			asked = append(asked, strconv.Quote(o.name))
		}
		return nil, fmt.Errorf("%w: %s", ErrNotRegistered, strings.Join(asked, ", "))
	}
	return list, nil
}

func (d *draining) takes(s *Service) bool {
	return len(d.only) == 0 ||
		slices.ContainsFunc(d.only, func(o only) bool { return o.takes(s) })
}

// mark marks registrations draining.
func (w *owned) mark(ctx context.Context, list []*registration) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("not marked: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	defer w.tellNews(list...)
	claims := make([]*claimed, len(list))
	for i, g := range list {
		claims[i] = w.r.own.Change(g, func(s Service) (Service, error) {
			s.Status = Draining
			return s, nil
		})
	}
	return remains("mark", claims, w.alter(ctx, claims))
}

// wait waits for the settle time, and for the user's functions. It ends with ctx.
func (d *draining) wait(ctx context.Context) error {
	if err := backoff.Sleep(ctx, d.settle); err != nil {
		return fmt.Errorf("the settle time of %s was cut short: %w", d.settle, err)
	}
	var errs []error
	for _, f := range d.until {
		if err := await(ctx, f); err != nil {
			errs = append(errs, fmt.Errorf("Until: %w", err))
		}
	}
	return errors.Join(errs...)
}

// await calls f, unless ctx is over, and waits for it until then. It leaves an f behind that does
// not end with ctx: f must not keep the drained instances registered.
func await(ctx context.Context, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan func() error, 1)
	// ends with ctx
	go catch(func() error { return f(ctx) }, func(end func() error) { done <- end })
	select {
	case end := <-done:
		return end()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endAfter takes registrations back, within writeTime, even if ctx has ended.
func (w *owned) endAfter(ctx context.Context, list []*claimed) error {
	limit := writeTime
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline))
	}
	if ctx.Err() != nil || limit < lastTime {
		limit = lastTime
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	defer w.tellNews(registrations(list)...)
	return remains("unregister", list, w.end(ctx, list))
}

// remains says of which registrations something is left to be done. One that a newer one took over
// is not this process's any more, nor is one that was taken back.
func remains(what string, list []*claimed, errs []error) error {
	for i, err := range errs {
		if errors.Is(err, ErrFenced) || errors.Is(err, ErrNotRegistered) {
			errs[i] = nil
		} else if err != nil {
			errs[i] = fmt.Errorf("%s %q of service %q: %w", what, list[i].First.ID,
				list[i].First.Name, err)
		}
	}
	return errors.Join(errs...)
}

// catch calls f, and then done with a function that has the same end on another goroutine: it
// returns f's error, panics as f did, or ends the goroutine.
func catch(f func() error, done func(end func() error)) {
	end := func() error { runtime.Goexit(); return nil }
	defer func() {
		if p := recover(); p != nil {
			end = func() error { panic(p) }
		}
		done(end)
	}()
	err := f()
	end = func() error { return err }
}
