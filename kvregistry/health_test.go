package kvregistry

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// OnHealth is called with the first state, and then once for each change. Seen to fail if
// tellHealth calls it only the first time, and if it calls it each time.
func TestOnHealth(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	told := make(chan Health, 1000)
	reg := newRegistry(t, s, OnHealth(func(h Health) { told <- h }))
	if err := reg.ObserveContext(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	first, was := true, Health{}
	// waits for it; on a slow machine the state may change and change back before
	next := func(within time.Duration, ok bool) {
		t.Helper()
		for end := time.After(within); ; {
			select {
			case h := <-told:
				if !first && h.OK() == was.OK() && h.Current() == was.Current() {
					t.Fatalf("OnHealth was called twice with the same: %+v", h)
				}
				if first, was = false, h; h.OK() == ok && h.Current() == ok {
					return
				}
			case <-end:
				t.Fatalf("OnHealth was not called within %s with %v", within, ok)
			}
		}
	}
	next(5*time.Second, true)
	for range 2 {
		s.Down()
		next(natstest.Soon, false)
		s.Up()
		next(10*time.Second, true)
	}
	time.Sleep(3 * healthTime) // it is read, and nothing is reported
	if err := reg.Close(); err != nil {
		t.Error(err)
	}
	select {
	case h := <-told:
		t.Errorf("told again of %+v", h)
	default:
	}
}

// A function that is added later is called with what is so, and with each turn until it is taken
// back. Seen to fail with calls that go on.
func TestOnHealthAfterNew(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	reg := newRegistry(t, s)
	told := make(chan Health, 1000)
	stop, err := reg.OnHealth(func(h Health) { told <- h })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := within(t, "a call", func() error { <-told; return nil }); err != nil {
		t.Fatal(err)
	}
	s.Down()
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := <-told; h.OK() {
			return errors.New("all is right")
		}
		return nil
	})
	stop()
	s.Up()
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := reg.Health(); !h.OK() {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
	time.Sleep(3 * healthTime) // in which it would be called
	for len(told) > 0 {
		if h := <-told; h.OK() {
			t.Errorf("called after stop: %+v", h)
		}
	}
	if _, err := reg.OnHealth(nil); !errors.Is(err, ErrInvalidOption) {
		t.Error(err)
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := reg.OnHealth(func(Health) {}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// Health counts what went wrong so far. Seen to fail without each of the counters.
func TestHealthCounts(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	reg, other := newRegistry(t, s), newRegistry(t, s)
	mustRegister(t, reg, Service{Name: "web", ID: "a", Address: "a:1"},
		Service{Name: "api", ID: "b", Address: "a:1"})
	if err := reg.ObserveContext(t.Context(), "api"); err != nil {
		t.Fatal(err)
	}
	if h := reg.Health(); h.RoundTrip <= 0 || h.Losses+h.Fenced+h.Merged > 0 {
		t.Errorf("%+v", h)
	}
	mustRegister(t, other, Service{Name: "web", ID: "a", Address: "b:1"})
	n := 0
	for _, err := range reg.Events(t.Context(), "api") { // a slow reader
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			break
		}
		last := uint64(0)
		for i := range 10 {
			if err := reg.UpdateFunc(t.Context(), "api", "b",
				func(s *Service) { s.Weight = i + 1 }); err != nil {
				t.Fatal(err)
			}
			last = reg.RegisteredServices()[0].Revision
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			if snap, err := reg.Snapshot("api"); err != nil || snap.Revision() < last {
				return fmt.Errorf("the cache is behind %d: %w", last, err)
			}
			return nil
		})
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := reg.Health(); h.Fenced != 1 || h.Merged == 0 {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
	s.Outage(3 * time.Second) // longer than a TTL
	natstest.Eventually(t, natstest.Soon, func() error {
		h, sessions := reg.Health(), uint64(0)
		for _, ended := range h.Sessions {
			sessions += ended
		}
		if h.Losses == 0 || h.Missed == 0 || sessions == 0 || h.Resyncs != sessions {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
}

// OnHealth is not told of a registry that New does not return. Seen to fail with calls that begin
// before the bucket is checked.
func TestOnHealthOfARefusedRegistry(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	s := natstest.Start(t, u.configure(t))
	u.makeBucket(t, s)
	var told atomic.Int32
	_, err := New(t.Context(), s.Connect(u.options("registrar")...), discard(), Tenant("beta"),
		OnHealth(func(Health) { told.Add(1) }))
	if !errors.Is(err, ErrPermission) || told.Load() > 0 {
		t.Errorf("New gave %v, OnHealth was called %d times", err, told.Load())
	}
}
