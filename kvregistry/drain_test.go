package kvregistry

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// statuses waits until an observer shows exactly the given instances and statuses, as "id status".
func statuses(t testing.TB, r *Registry, name string, want ...string) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		snap, err := r.Snapshot(name)
		if err != nil {
			return err
		}
		var got []string
		for s := range snap.All() {
			got = append(got, s.ID+" "+string(s.Status))
		}
		if !slices.Equal(got, want) {
			return errors.New(name + " has " + strings.Join(got, ", ") + ", want " +
				strings.Join(want, ", "))
		}
		return nil
	})
}

// Drain marks the instances, waits for the settle time and for the caller's condition, and
// unregisters them. Seen to fail without the settle time, with instances that are not marked, and
// with instances that are unregistered before the condition.
func TestDrainIsInOrder(t *testing.T) {
	s := natstest.Start(t)
	owner, observer := newRegistry(t, s), newRegistry(t, s)
	mustRegister(t, owner, Service{ID: "a", Name: "web", Address: "h:1"},
		Service{ID: "b", Name: "web", Address: "h:2"})
	statuses(t, observer, "web", "a passing", "b passing")
	events, err := observer.Watch(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	<-events
	<-events

	const settle = 150 * time.Millisecond
	var began time.Time
	err = owner.Drain(t.Context(), Settle(settle), Until(func(context.Context) error {
		began = time.Now()
		if _, err := observer.GetService("web"); !errors.Is(err, ErrNotFound) {
			t.Errorf("a look-up while it drains gave %v", err)
		}
		statuses(t, observer, "web", "a draining", "b draining")
		for range 2 {
			if e := <-events; e.Kind != Updated || e.Service.Status != Draining {
				t.Errorf("an observer saw %v of %v first", e.Kind, e.Service)
			}
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if e := <-events; e.Kind != Unregistered {
			t.Errorf("an observer saw %v of %v last", e.Kind, e.Service)
		}
	}
	statuses(t, observer, "web")
	if list := owner.RegisteredServices(); len(list) > 0 {
		t.Errorf("still registered: %v", list)
	}
	mustRegister(t, owner, Service{ID: "a", Name: "web", Address: "h:1"}) // it is as open as before
	marked := time.Now()
	if err := owner.Drain(t.Context(), Settle(settle),
		Until(func(context.Context) error { began = time.Now(); return nil })); err != nil {
		t.Fatal(err)
	}
	if wait := began.Sub(marked); wait < settle {
		t.Errorf("the condition was looked at after %s", wait)
	}
}

// Drain unregisters also if its context ends, its condition fails, or its condition does not
// return. Seen to fail if the deletes use the context that has ended, and with a wait for the
// condition that has no end.
func TestDrainLeavesNothingHalfDone(t *testing.T) {
	s := natstest.Start(t)
	owner, observer := newRegistry(t, s), newRegistry(t, s)
	oops := errors.New("oops")
	stuck := make(chan struct{})
	defer close(stuck)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	ends, end := context.WithCancel(t.Context())
	defer end()
	for name, tc := range map[string]struct {
		ctx   context.Context
		until func(context.Context) error
		want  error
	}{
		"its time is over": {over, func(context.Context) error {
			t.Error("called")
			return nil
		}, context.Canceled},
		"its condition fails": {t.Context(), func(context.Context) error { return oops },
			oops},
		"its condition does not end": {ends, func(context.Context) error {
			end()
			<-stuck
			return nil
		}, context.Canceled},
	} {
		mustRegister(t, owner, Service{ID: "a", Name: "web", Address: "h:1"})
		statuses(t, observer, "web", "a passing")
		err := owner.Drain(tc.ctx, Settle(time.Millisecond), Until(tc.until))
		// if it had no time for the mark, that may be pending
		if !errors.Is(err, tc.want) || errors.Is(err, ErrPending) && tc.ctx != over {
			t.Errorf("%s: %v", name, err)
		}
		statuses(t, observer, "web")
	}
}

// Each function of Until is called after the settle time, even if the registrations are gone. A
// server that such a function shuts down is not left running, and is not shut down before callers
// know. Seen to fail if one is not called after another's error, if a fenced instance counts as the
// end, and without a settle time for instances that are gone.
func TestDrainWaitsWhateverIsRegistered(t *testing.T) {
	s := natstest.Start(t)
	oops := errors.New("oops")
	fenced := newRegistry(t, s)
	mustRegister(t, fenced, Service{ID: "a", Name: "web", Address: "h:1"})
	mustRegister(t, newRegistry(t, s), Service{ID: "a", Name: "web", Address: "h:2"})
	natstest.Eventually(t, natstest.Soon, func() error {
		if list := fenced.RegisteredServices(); len(list) > 0 {
			return errors.New("it is not fenced yet")
		}
		return nil
	})
	closed := newRegistry(t, s)
	_ = closed.Close()
	for name, tc := range map[string]struct {
		reg  *Registry
		only bool
		want error
	}{
		"fenced": {fenced, true, ErrNotRegistered}, "none": {fenced, false, nil},
		"closed": {closed, false, ErrClosed},
	} {
		for _, failure := range []error{nil, oops} {
			const settle = 100 * time.Millisecond
			began, calls := time.Now(), 0
			until := func(context.Context) error {
				if time.Since(began) < settle {
					t.Errorf("%s: called after %s", name, time.Since(began))
				}
				calls++
				return failure
			}
			opts := []DrainOption{Settle(settle), Until(until), Until(until)}
			if tc.only {
				opts = append(opts, Only("web", "a"))
			}
			err := tc.reg.Drain(t.Context(), opts...)
			if want := cmp.Or(failure, tc.want); !errors.Is(err, want) || calls != 2 {
				t.Errorf("%s: %v, want %v; called %d times", name, err, want, calls)
			}
		}
	}
}

// While NATS is away, Drain returns in time with an error that names what is left. The rest is done
// when NATS is back. Seen to fail with an error that names no instance.
func TestDrainWithoutServer(t *testing.T) {
	s := natstest.Start(t)
	owner, observer := newRegistry(t, s, TTL(time.Minute)), newRegistry(t, s)
	mustRegister(t, owner, Service{ID: "a1", Name: "web", Address: "h:1"})
	statuses(t, observer, "web", "a1 passing")
	s.Down()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := within(t, "Drain", func() error { return owner.Drain(ctx) })
	if !errors.Is(err, ErrPending) || !strings.Contains(err.Error(), `"a1"`) {
		t.Errorf("without a server: %v", err)
	}
	s.Up()
	statuses(t, observer, "web")
}

// While NATS is away Drain gives up in a bounded time, however late its context ends. Seen to fail
// with an end that uses all of the context's time.
func TestDrainWithoutServerIsBounded(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	mustRegister(t, owner, Service{ID: "a", Name: "web", Address: "h:1"})
	s.Down()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	err := within(t, "Drain", func() error { return owner.Drain(ctx, Settle(0)) })
	if !errors.Is(err, ErrPending) {
		t.Errorf("Drain gave %v", err)
	}
}

// Drain drains only the given instances, and nothing if one of them is not valid. Seen to fail if
// the ids are not checked.
func TestDrainOnly(t *testing.T) {
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	mustRegister(t, owner, Service{ID: "a", Name: "web", Address: "h:1"},
		Service{ID: "b", Name: "web", Address: "h:2"},
		Service{ID: "c", Name: "api", Address: "h:3"}, Service{ID: "d", Name: "db", Address: "h:4"})
	for name, bad := range map[string]struct {
		opt  DrainOption
		want error
	}{
		"nil": {nil, ErrInvalidOption}, "settle": {Settle(-1), ErrInvalidOption},
		"until": {Until(nil), ErrInvalidOption}, "name": {Only("*"), ErrInvalidService},
		"nothing": {Only("web", "z"), ErrNotRegistered},
	} {
		if err := owner.Drain(t.Context(), Settle(0), bad.opt); !errors.Is(err, bad.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := owner.Drain(t.Context(), Settle(0), Only("wbe")); err == nil ||
		!strings.Contains(err.Error(), `"wbe"`) {
		t.Errorf("%v does not name the service", err)
	}
	statuses(t, owner, "web", "a passing", "b passing")
	if err := owner.Drain(t.Context(), Settle(0), Only("web", "b"), Only("api")); err != nil {
		t.Fatal(err)
	}
	statuses(t, owner, "web", "a passing")
	statuses(t, owner, "api")
	statuses(t, owner, "db", "d passing")

	if err := owner.Drain(t.Context(), Settle(0)); err != nil { // the rest
		t.Fatal(err)
	}
	called := false
	if err := owner.Drain(t.Context(), Settle(0),
		Until(func(context.Context) error { called = true; return nil })); err != nil || !called {
		t.Errorf("with nothing registered: %v, condition waited for %v", err, called)
	}
	_ = owner.Close()
	if err := owner.Drain(t.Context(), Settle(0)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// Concurrent drains and unregistrations of the same instances do no harm to each other.
func TestDrainsAtOnce(t *testing.T) {
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	mustRegister(t, owner, Service{ID: "a", Name: "web", Address: "h:1"},
		Service{ID: "b", Name: "web", Address: "h:2"})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := owner.Drain(t.Context(), Settle(time.Millisecond)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		if err := owner.Unregister("web"); err != nil && !errors.Is(err, ErrNotRegistered) {
			t.Error(err)
		}
	})
	wg.Wait()
	statuses(t, owner, "web")
}
