package kvregistry

import (
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
	was := false
	// waits for it; on a slow machine the state may change and change back before
	next := func(within time.Duration, ok bool) {
		t.Helper()
		for end := time.After(within); ; {
			select {
			case h := <-told:
				if h.OK() == was {
					t.Fatalf("told twice that it is %v: %+v", was, h)
				} else if was = h.OK(); was == ok {
					return
				}
			case <-end:
				t.Fatalf("not told within %s that it is %v", within, ok)
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
