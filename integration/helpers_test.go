package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant/operator"
)

// quiet keeps the library's log out of the test's output.
func quiet() kvregistry.Option { return kvregistry.Logger(slog.New(slog.DiscardHandler)) }

// open makes a registry on a connection of its own, until the test ends.
func open(t testing.TB, s *natstest.Server, opts ...kvregistry.Option) *kvregistry.Registry {
	t.Helper()
	return openOn(t, s.Connect(), opts...)
}

func openOn(t testing.TB, nc *nats.Conn, opts ...kvregistry.Option) *kvregistry.Registry {
	t.Helper()
	base := []kvregistry.Option{kvregistry.TTL(ttl), kvregistry.Timeout(natstest.Soon), quiet()}
	r, err := kvregistry.New(t.Context(), nc, append(base, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// web returns an instance of the service "web".
func web(id string) kvregistry.Service {
	return kvregistry.Service{ID: id, Name: "web", URL: "http://127.0.0.1:8083/" + id}
}

func register(t testing.TB, r *kvregistry.Registry, s kvregistry.Service) func() error {
	t.Helper()
	un, err := registerSoon(t.Context(), r, s)
	if err != nil {
		t.Fatal(err)
	}
	return un
}

// registerSoon is Register for a machine that may take longer than Register waits.
func registerSoon(ctx context.Context, r *kvregistry.Registry, s kvregistry.Service) (func() error,
	error) {
	ctx, cancel := context.WithTimeout(ctx, natstest.Soon)
	defer cancel()
	return r.RegisterContext(ctx, s)
}

// ids returns the ids of a service's instances as a registry shows them, without waiting.
func ids(t testing.TB, r *kvregistry.Registry, name string) []string {
	t.Helper()
	snap, err := r.Snapshot(name)
	if err != nil {
		t.Fatal(err)
	}
	return idsOf(snap)
}

func idsOf(snap *kvregistry.Snapshot) []string {
	list := []string{}
	for s := range snap.All() {
		list = append(list, s.ID)
	}
	return list
}

// sees waits until a registry shows exactly the given instances, and returns how long that took.
// The first look-up may take as long.
func sees(t testing.TB, r *kvregistry.Registry, within time.Duration, name string,
	want ...string) time.Duration {
	t.Helper()
	return natstest.Eventually(t, within, func() error {
		snap, err := r.Snapshot(name)
		if isErr(err, kvregistry.ErrUnavailable) && within > 0 {
			return err
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := idsOf(snap); !slices.Equal(got, want) {
			return fmt.Errorf("service %s has %v, want %v", name, got, want)
		}
		return nil
	})
}

// bucket returns the tenant's bucket, for reads and writes by hand.
func bucket(t testing.TB, nc *nats.Conn, tenant string) jetstream.KeyValue {
	t.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(natstest.Soon))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), "registry_"+tenant)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// keys returns the keys of a bucket with a value and a prefix.
func keys(t testing.TB, nc *nats.Conn, tenant, prefix string) []string {
	t.Helper()
	list := []string{}
	l, err := bucket(t, nc, tenant).ListKeysFiltered(t.Context(), prefix+">")
	if err != nil {
		t.Fatal(err)
	}
	for k := range l.Keys() {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

func isErr(err, want error) bool { return errors.Is(err, want) }

func noneLeft(list []string) error {
	if len(list) > 0 {
		return fmt.Errorf("these remain: %v", list)
	}
	return nil
}

var errStill = errors.New("the key still has the value that was written by hand")

func wantAddress(r *kvregistry.Registry, want string) error {
	one, err := r.GetService("web")
	if err == nil && one.Address != want {
		err = fmt.Errorf("address is %q, want %q", one.Address, want)
	}
	return err
}

type kvService = kvregistry.Service

func contains(list []string, want string) bool { return slices.Contains(list, want) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func views(consumers []string) []string {
	return slices.DeleteFunc(consumers,
		func(name string) bool { return !strings.HasPrefix(name, "view-") })
}

// messages returns how many keys acme's bucket has, with those that have ended.
func messages(t *testing.T, nc *nats.Conn) uint64 {
	t.Helper()
	list, err := operator.List(t.Context(), nc)
	must(t, err)
	return list[0].Keys
}

// awaitEvent waits until a reader is told of an instance, and fails the test unless the first event
// is of the given kind.
func awaitEvent(t *testing.T, events <-chan kvregistry.Event, id string, kind kvregistry.Kind) {
	t.Helper()
	late := time.After(natstest.Soon)
	for {
		select {
		case e := <-events:
			if e.Service.ID != id {
				continue
			}
			if e.Kind != kind {
				t.Fatalf("%s was %s, want %s", id, e.Kind, kind)
			}
			return
		case <-late:
			t.Fatalf("no event tells that %s was %s", id, kind)
		}
	}
}

// toldOf returns the kinds of the unread events about an instance.
func toldOf(events <-chan kvregistry.Event, id string) (kinds []kvregistry.Kind) {
	for {
		select {
		case e := <-events:
			if e.Service.ID == id {
				kinds = append(kinds, e.Kind)
			}
		case <-time.After(ttl / 10):
			return kinds
		}
	}
}

func second[T any](_ T, err error) error { return err }

// removal bounds how long a killed process stays in a cache. Its lease ends after a TTL. On a busy
// machine the reapers of either version may then be in doubt twice, for 3 s each.
const removal = ttl + 2*3*time.Second + 2*time.Second

// recordOf makes a record of service "web" that is valid, except for the given text inside its
// instance.
func recordOf(id, lease, rest string) string {
	return fmt.Sprintf(`{"format":1,"lease":%q,"owner":"evil",`+
		`"instance":{"id":%q,"name":"web","address":"evil:1"%s}}`, lease, id, rest)
}

// leaseOf returns the id of a registry's lease.
func leaseOf(r *kvregistry.Registry) string {
	if l := inside.Lease(r); l != nil {
		return l.ID
	}
	return "none"
}

// patient returns a long TTL, for tests in which no lease may be lost on a busy machine.
func patient() kvregistry.Option { return kvregistry.TTL(20 * time.Second) }

// inTier returns usual, or long in the long tier.
func inTier[T any](usual, long T) T {
	if natstest.IsLong() {
		return long
	}
	return usual
}
