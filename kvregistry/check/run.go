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

// writeTime is how long a status waits for the server before the newest one is looked at again. The registry goes on with a write that was not acknowledged.
const writeTime = time.Second

// Runner runs the checks of one service. Its methods may be called by any number of goroutines.
type Runner struct {
	reg         *kvregistry.Registry
	service, id string
	checks      []Check

	ctx    context.Context // ends with Stop, or with the registry
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{} // there was a result; holds one

	mu     sync.Mutex // guards what follows, by check
	states []state
	first  chan struct{} // closed when each has a result
}

type state struct {
	verdict
	last Result
}

// Result is what a check has come to.
type Result struct {
	Name   string            // of the check
	Status kvregistry.Status // what it makes of the service, damped; empty before the first run
	Err    error             // of the last run, nil where it passed
	At     time.Time         // when the last run was over
	Took   time.Duration     // how long it took
}

// MarshalJSON gives the members "name", "status", "error", "at" and "took_seconds". The error is
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

// Run runs checks of a service until Stop is called, or until the first result after the registry was closed, and sets the status of all instances of that name that this process has registered, now or
// later. The error wraps [kvregistry.ErrInvalidOption].
//
// Give all checks of a service to one Run: each sets the status by its own checks alone, so two would undo what the other set, again and again.
//
// A service that is registered before its checks have run is called before. To have it wait, register it as critical, which the first results change, or
// register it after [Runner.Wait], with the status that it gives.
func Run(reg *kvregistry.Registry, service string, checks ...Check) (*Runner, error) {
	return RunInstance(reg, service, "", checks...)
}

// RunInstance is [Run] for one instance of a process that registers several of the same name.
func RunInstance(reg *kvregistry.Registry, service, id string, checks ...Check) (*Runner, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("check: service %q: "+format, append([]any{service}, args...)...)
	}
	switch {
	case reg == nil:
		return nil, bad("%w: the registry is nil", kvregistry.ErrInvalidOption)
	case service == "" || service == kvregistry.Everything:
		return nil, bad("%w: that is no service's name; run the checks of each", kvregistry.ErrInvalidOption)
	case len(checks) == 0:
		return nil, bad("%w: there is no check to run", kvregistry.ErrInvalidOption)
	}
	r := &Runner{
		reg: reg, service: service, id: id, checks: checks,
		wake: make(chan struct{}, 1), states: make([]state, len(checks)), first: make(chan struct{}),
	}
	for i, c := range checks {
		if c.f == nil && c.err == nil {
			c.err = fmt.Errorf("%w: make it by Of, HTTP, TCP or Heartbeat", kvregistry.ErrInvalidOption)
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

// Stop ends the checks. The status stays as it is. One that is running is told so by its context, and not waited for.
func (r *Runner) Stop() {
	r.cancel()
	r.wg.Wait()
}

// Results are what the checks have come to, in the order in which Run was given them.
func (r *Runner) Results() []Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Result, len(r.states))
	for i := range r.states {
		list[i] = r.states[i].last
	}
	return list
}

// Wait waits until each check has run once, and returns what the service's status is by them. The error is ctx's, or wraps [kvregistry.ErrClosed] where the checks were stopped.
func (r *Runner) Wait(ctx context.Context) (kvregistry.Status, error) {
	select {
	case <-r.first: // whatever else is over
		return r.worst(), nil
	default:
	}
	select {
	case <-r.first:
	case <-ctx.Done():
		return "", fmt.Errorf("check: service %q: waiting for the first results: %w", r.service, ctx.Err())
	case <-r.ctx.Done():
		return "", fmt.Errorf("check: service %q: the checks were stopped: %w", r.service, kvregistry.ErrClosed)
	}
	return r.worst(), nil
}

// take takes a check's result.
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

// worst is the service's status by its checks. Until each has a result it is empty, unless one says critical already.
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

// apply sets the status after each result. Where it is that already, nothing is written; so what was set by hand, or not registered yet, is set right by the next
// result. A write that was not acknowledged in time is made by the registry, as soon as it can be.
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
		case r.ctx.Err() != nil: // Stop, while it was written
		case err == nil, errors.Is(err, kvregistry.ErrNotRegistered), errors.Is(err, kvregistry.ErrPending), errors.Is(err, kvregistry.ErrFenced):
			refused = false
		case !refused: // said once
			refused = true
			r.reg.Logger().Warn("kvregistry: a status by checks could not be set; it is tried again after each check", "service", r.service, "status", status, "cause", err)
		}
	}
}
