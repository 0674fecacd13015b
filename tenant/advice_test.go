package tenant

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
)

// Roles isolate from a patch of each minor version on. Seen to fail with all patches of 2.14.
func TestIsolates(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"2.11.0": false, "2.11.17": false, "2.12.15": false, "2.14.9": false, "2.15.0": false, "2.15.2": false,
		"2.15.3-RC.1": false, "2.15": false, "2.14": false, "": false, "x": false, "1.99.99": false,
		"2.14.10": true, "2.14.11-RC.1": true, "2.15.3": true, "v2.15.3": true, "2.15.10": true,
		"2.16.0": true, "2.16.0-dev": true, "3.0.0": true,
	} {
		if got := isolates(version); got != want {
			t.Errorf("%q: %t", version, got)
		}
	}
}

// windowOf is the duplicate window of a tenant's bucket.
func windowOf(t *testing.T, js jetstream.JetStream, tenant string) time.Duration {
	t.Helper()
	s, err := js.Stream(t.Context(), "KV_registry_"+tenant)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config.Duplicates
}

// lengthen gives a tenant's bucket the duplicate window that earlier versions gave it.
func lengthen(t *testing.T, js jetstream.JetStream, tenant string) {
	t.Helper()
	s, err := js.Stream(t.Context(), "KV_registry_"+tenant)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.Duplicates = 2 * time.Minute
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// A new bucket has the shortest duplicate window that a server takes. Ensure tells of a longer one
// and leaves it; Provision and Change shorten it. Seen to fail with a window of two minutes, and
// with a Provision that only ensures.
func TestDuplicateWindow(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t).Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	made, err := New(nc, "acme", Config{})
	if err == nil {
		err = made.Ensure(t.Context()) // and not Provision, which would shorten it
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := windowOf(t, js, "acme"); got != duplicateWindow {
		t.Errorf("a new bucket has %s", got)
	}
	s, err := js.Stream(t.Context(), "KV_registry_acme")
	if err != nil {
		t.Fatal(err)
	}
	shorter := s.CachedInfo().Config
	shorter.Duplicates = duplicateWindow - 1
	var refused *jetstream.APIError
	if _, err := js.UpdateStream(t.Context(), shorter); !errors.As(err, &refused) {
		t.Errorf("the server takes a shorter one: %v", err)
	}
	for name, shorten := range map[string]func() error{
		"Provision": func() error { return Provision(t.Context(), nc, "acme", Config{}) },
		"Change":    func() error { return Change(t.Context(), nc, "acme", Config{MaxKeys: 100}) },
	} {
		lengthen(t, js, "acme")
		b, err := New(nc, "acme", Config{})
		if err == nil {
			err = b.Ensure(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		tells := func(a string) bool { return strings.Contains(a, "2m0s") && strings.Contains(a, "tenant create acme") }
		if advice := b.Advice(); !slices.ContainsFunc(advice, tells) || windowOf(t, js, "acme") != 2*time.Minute {
			t.Errorf("Ensure: %q, %s", advice, windowOf(t, js, "acme"))
		}
		if list, err := List(t.Context(), nc); err != nil || !slices.ContainsFunc(list[0].Advice, tells) {
			t.Errorf("List: %+v, %v", list, err)
		}
		if err := shorten(); err != nil || windowOf(t, js, "acme") != duplicateWindow {
			t.Errorf("%s: %v, %s", name, err, windowOf(t, js, "acme"))
		}
		if err := b.Ensure(t.Context()); err != nil || b.Advice() != nil {
			t.Errorf("%q, %v", b.Advice(), err)
		}
	}
}
