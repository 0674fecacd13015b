package kvregistry

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/watcher"
)

// discard keeps the library's log out of the test's output.
func discard() Option { return Logger(slog.New(slog.DiscardHandler)) }

// newRegistry returns a registry for a test.
func newRegistry(t testing.TB, s *natstest.Server, opts ...Option) *Registry {
	t.Helper()
	r, err := New(t.Context(), s.Connect(), append([]Option{discard(), TTL(2 * time.Second)},
		opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// keyPair returns a new key for signatures.
func keyPair(t testing.TB) nkeys.KeyPair {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func mustRegister(t testing.TB, r *Registry, list ...Service) {
	t.Helper()
	for _, s := range list {
		if _, err := r.Register(s); err != nil {
			t.Fatal(err)
		}
	}
}

// decode reads a record as the bucket has it.
func decode(key string, value []byte, revision uint64) (record, error) {
	s := sight(watcher.Change{Key: key, Value: value, Revision: revision}, largestRecord)
	return s.rec, s.err
}
