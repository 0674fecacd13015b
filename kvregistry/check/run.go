package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/kvregistry"
)

// writeTime is how long a write of the status waits for the server before the newest status is
// looked at again. The registry goes on with a write that was not acknowledged.
const writeTime = time.Second

// Runner runs the checks of one service. Any number of goroutines may call its methods.
type Runner struct {
	reg         *kvregistry.Registry
	service, id string
	checks      []Check

	ctx    context.Context // ends with Stop, or with the registry
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{} // rung at each result; holds one

	mu     sync.Mutex // guards what follows, by check
	states []state
	first  chan struct{} // closed when each check has a result
}

type state struct {
	verdict
	last Result
}

// Result is the state of a check.
type Result struct {
	Name   string            // of the check
	Status kvregistry.Status // what it means for the service, damped; empty before the first run
	Err    error             // of the last run, nil if it passed
	At     time.Time         // when the last run ended
	Took   time.Duration     // how long the last run took
}

// MarshalJSON writes the members "name", "status", "error", "at" and "took_seconds". The error is
// its text, empty if there is none.
func (r Result) MarshalJSON() ([]byte, error) {
	text := ""
	if r.Err != nil {
		text = r.Err.Error()
	}
	return json.Marshal(struct {
		Name   string            `json:"name"`
		Status kvregistry.Status `json:"status"`
		Error  string            `json:"error"`
		At     time.Time         `json:"at"`
		Took   float64           `json:"took_seconds"`
	}{r.Name, r.Status, text, r.At, r.Took.Seconds()})
}

// Run runs the checks of a service until [Runner.Stop] is called, or until the first result after
// the registry was closed. It sets the status of all instances of that name that this process has
// registered, or registers later. The error wraps [kvregistry.ErrInvalidOption].
//
// Give all checks of a service to one Run. Each Run sets the status by its own checks alone, so two
// would undo each other's writes.
//
// A service that is registered before its checks have run is called before they have run. To have
// it wait, register it as critical, which the first results change, or register it after
// [Runner.Wait], with the status that Wait returns.
func Run(reg *kvregistry.Registry, service string, checks ...Check) (*Runner, error) {
	return RunInstance(reg, service, "", checks...)
}

// RunInstance is like [Run] for one instance, in a process that registers several of the same name.
func RunInstance(reg *kvregistry.Registry, service, id string, checks ...Check) (*Runner, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("check: service %q: "+format, append([]any{service}, args...)...)
	}
	switch {
	case reg == nil:
		return nil, bad("%w: the registry is nil", kvregistry.ErrInvalidOption)
	case service == "" || service == kvregistry.Everything:
		return nil, bad("%w: that is not the name of a service; run the checks of each service",
			kvregistry.ErrInvalidOption)
	case len(checks) == 0:
		return nil, bad("%w: no check was given", kvregistry.ErrInvalidOption)
	}
	r := &Runner{
		reg: reg, service: service, id: id, checks: checks,
		wake: make(chan struct{}, 1), states: make([]state, len(checks)),
		first: make(chan struct{}),
	}
	for i, c := range checks {
		if c.f == nil && c.err == nil {
			c.err = errMade
		}
		r.states[i].last.Name = c.name
		if c.name == "" {
			r.states[i].last.Name = fmt.Sprintf("check %d", i+1)
		}
		if c.err != nil {
			return nil, bad("%s: %w", r.states[i].last.Name, c.err)
		}
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	for i := range checks { // they end with r.ctx; Stop waits
		r.wg.Go(func() {
			checks[i].loop(r.ctx, func(err error, took time.Duration) { r.take(i, err, took) })
		})
	}
	r.wg.Go(r.apply)
	return r, nil
}

// Stop ends the checks, and leaves the status as it is. A check that is running learns of it by its
// context. Stop does not wait for it.
func (r *Runner) Stop() {
	r.cancel()
	r.wg.Wait()
}

// Results returns the states of the checks, in the order in which Run was given them.
func (r *Runner) Results() []Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Result, len(r.states))
	for i := range r.states {
		list[i] = r.states[i].last
	}
	return list
}

// Wait waits until each check has run once, and returns the service's status by the checks. The
// error is that of ctx, or wraps [kvregistry.ErrClosed] if the checks were stopped.
func (r *Runner) Wait(ctx context.Context) (kvregistry.Status, error) {
	select {
	case <-r.first: // even if ctx or the runner has ended
		return r.worst(), nil
	default:
	}
	select {
	case <-r.first:
	case <-ctx.Done():
		return "", fmt.Errorf("check: service %q: waiting for the first results: %w",
			r.service, ctx.Err())
	case <-r.ctx.Done():
		return "", fmt.Errorf("check: service %q: the checks were stopped: %w", r.service,
			kvregistry.ErrClosed)
	}
	return r.worst(), nil
}

// take records a check's result, and logs a change.
func (r *Runner) take(i int, err error, took time.Duration) {
	c := &r.checks[i]
	r.mu.Lock()
	s := &r.states[i]
	began := !s.known
	changed := s.add(err != nil, c.rise, c.fall)
	s.last.Err, s.last.At, s.last.Took, s.last.Status = err, time.Now(), took, kvregistry.Passing
	if s.failing {
		s.last.Status = c.failed
	}
	if began && !r.someUnknown() {
		close(r.first)
	}
	name, failing := s.last.Name, s.failing
	r.mu.Unlock()
	switch log := r.reg.Logger().With("service", r.service, "check", name); {
	case changed && failing:
		log.Warn("kvregistry: a check fails", "status", c.failed, "cause", err)
	case changed && !began:
		log.Info("kvregistry: a check passes again")
	}
	bell.Ring(r.wake)
}

// someUnknown reports whether a check has no result yet. The caller holds r.mu.
func (r *Runner) someUnknown() bool {
	for i := range r.states {
		if !r.states[i].known {
			return true
		}
	}
	return false
}

// worst returns the service's status by its checks. Until each check has a result it is empty,
// unless one is critical already.
func (r *Runner) worst() kvregistry.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	worst := kvregistry.Passing
	for i := range r.states {
		switch r.states[i].last.Status {
		case kvregistry.Critical:
			return kvregistry.Critical
		case kvregistry.Warning:
			worst = kvregistry.Warning
		}
	}
	if r.someUnknown() {
		return ""
	}
	return worst
}

// apply sets the status after each result. It writes nothing if the status is that already, so the
// next result also sets what was changed by hand or registered meanwhile. The registry completes a
// write that was not acknowledged in time.
func (r *Runner) apply() {
	for refused := false; ; {
		select {
		case <-r.ctx.Done():
			return
		case <-r.wake:
		}
		status := r.worst()
		if status == "" {
			continue
		}
		ctx, cancel := context.WithTimeout(r.ctx, writeTime)
		err := r.reg.UpdateFunc(ctx, r.service, r.id, func(s *kvregistry.Service) {
			if s.Status != kvregistry.Draining {
				s.Status = status
			}
		})
		cancel()
		switch {
		case errors.Is(err, kvregistry.ErrClosed), errors.Is(err, kvregistry.ErrConnectionClosed):
			r.cancel()
			return
		case r.ctx.Err() != nil: // Stop was called during the write
		case err == nil, errors.Is(err, kvregistry.ErrNotRegistered),
			errors.Is(err, kvregistry.ErrPending), errors.Is(err, kvregistry.ErrFenced):
			refused = false
		case !refused: // logged once
			refused = true
			r.reg.Logger().Warn(
				"kvregistry: could not set the status by checks, trying again after each check",
				"service", r.service, "status", status, "cause", err)
		}
	}
}
