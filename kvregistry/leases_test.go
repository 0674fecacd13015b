package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// Leases lists each lease once with what its owner says, and a look-up says which lease and owner
// an instance has. Seen to fail if the cache does not keep them.
func TestLeases(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	reg := newRegistry(t, s)
	if list, err := reg.Leases(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	began := time.Now()
	owners := map[string]*Registry{}
	for i := range 3 {
		owner := newRegistry(t, s, TTL(10*time.Second))
		id := fmt.Sprint(i)
		mustRegister(t, owner, Service{Name: "web", ID: id, Address: "a:1"})
		owners[id] = owner
	}
	found, err := reg.WaitFor(t.Context(), "web", 3)
	if err != nil {
		t.Fatal(err)
	}
	list, err := reg.Leases(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	leases := map[string]Lease{}
	for _, one := range list {
		leases[one.ID] = one
	}
	host, _ := os.Hostname()
	for _, one := range found {
		got := leases[one.Lease]
		if got.Owner != one.Owner || got.Owner != owners[one.ID].id || got.Host != host ||
			got.PID != os.Getpid() || got.TTL != 10*time.Second || got.Age < 0 ||
			got.Age > 10*time.Second || time.Since(got.Started) > time.Since(began)+time.Second {
			t.Errorf("%+v of %+v", got, one)
		}
	}
	// while heartbeats overwrite them, each lease is there
	fast := newRegistry(t, s, TTL(2*time.Second))
	mustRegister(t, fast, Service{Name: "api", Address: "a:1"})
	for range 20 {
		if list, err := reg.Leases(t.Context()); err != nil || len(list) != 4 {
			t.Errorf("%+v, %v", list, err)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := reg.Leases(over); !errors.Is(err, context.Canceled) ||
		!errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Leases(t.Context()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
