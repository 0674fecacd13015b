package kvregistry

import (
	"errors"
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
	first, was := true, false
	// waits for it; on a slow machine the state may change and change back before
	next := func(within time.Duration, ok bool) {
		t.Helper()
		for end := time.After(within); ; {
			select {
			case h := <-told:
				if !first && h.OK() == was {
					t.Fatalf("OnHealth was called twice with %v: %+v", was, h)
				}
				if first, was = false, h.OK(); was == ok {
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
		next(3*time.Second, false)
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
