package kvregistry_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// instances is the number of instances that a look-up finds.
const instances = 10

// observer registers instances of web with one registry, and returns another that has them in its
// cache.
func observer(t *testing.T) *kvregistry.Registry {
	t.Helper()
	s := natstest.Start(t)
	open := func() *kvregistry.Registry {
		r, err := kvregistry.New(t.Context(), s.Connect(),
			kvregistry.Logger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	}
	owner := open()
	for i := range instances {
		if _, err := owner.Register(kvregistry.Service{
			ID: fmt.Sprintf("%02d", i), Name: "web", URL: "http://127.0.0.1:8083/test",
			Zone: "east",
			Tags: []string{"a", "b"}, Metadata: map[string]string{"k": "v"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	r := open()
	if snap, err := r.Snapshot("web"); err != nil || snap.Len() != instances {
		t.Fatalf("%v, %v: not the %d instances", snap, err, instances)
	}
	return r
}

// TestCachedLookupsAllocate checks that a look-up from the cache allocates nothing, except the
// slice that GetServices returns. The counts are those of the whole process. Its other goroutines
// allocate far less than once per look-up, and AllocsPerRun rounds that off.
func TestCachedLookupsAllocate(t *testing.T) {
	r, ctx := observer(t), t.Context()
	east := kvregistry.InZone("east")
	all, some := prepare(t, r), prepare(t, r, east, kvregistry.WithTag("a"))
	for _, tc := range []struct {
		name   string
		lookUp func() (int, error) // the number of instances that it found
		want   float64
	}{
		{"GetService", func() (int, error) {
			s, err := r.GetService("web")
			return min(len(s.ID), 1), err
		}, 0},
		{"GetServiceContext", func() (int, error) {
			s, err := r.GetServiceContext(ctx, "web")
			return min(len(s.ID), 1), err
		}, 0},
		{"GetService with a filter", func() (int, error) {
			s, err := r.GetService("web", east)
			return min(len(s.ID), 1), err
		}, 0},
		{"Lookup.Pick", func() (int, error) {
			s, done, err := all.Pick(ctx)
			done(nil)
			return min(len(s.ID), 1), err
		}, 0},
		{"Lookup.Pick with filters", func() (int, error) {
			s, done, err := some.PickWith(ctx, kvregistry.Request{Key: "k"})
			done(nil)
			return min(len(s.ID), 1), err
		}, 0},
		{"Snapshot", func() (int, error) {
			snap, err := r.Snapshot("web")
			return snap.Len(), err
		}, 0},
		{"Snapshot, every instance read", func() (int, error) {
			snap, err := r.Snapshot("web")
			n := 0
			for range snap.All() {
				n++
			}
			return n, err
		}, 0},
		{"GetServices", func() (int, error) {
			list, err := r.GetServices(ctx, "web")
			return len(list), err
		}, 1},
		{"GetServices with a filter", func() (int, error) {
			list, err := r.GetServices(ctx, "web", east)
			return len(list), err
		}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := tc.lookUp()
			if err != nil || found != instances && found != 1 {
				t.Fatalf("found %d, %v", found, err)
			}
			got := testing.AllocsPerRun(20_000, func() { _, _ = tc.lookUp() })
			if got != tc.want {
				t.Errorf("%v allocations, want %v", got, tc.want)
			}
		})
	}
}
