package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// A service changes to another signing key: all processes trust both keys, its processes are
// restarted with the new key, and then the old key is no longer trusted. Observers always find the
// service: with the same id or another, and after a close or a crash of the old process. Seen to
// fail with a signer that has to be the first trusted one, with an observer that trusts the old key
// alone, and with the old registry closed first.
func TestSigningKeyIsRotated(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]struct {
		id      string
		crashes bool
	}{
		"the same id": {"a", false}, "another id": {"b", false},
		"the same id after a crash": {"a", true}, "another id after a crash": {"b", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			old, _, oldPublic := userKey(t)
			next, _, nextPublic := userKey(t)
			both, only := kvregistry.TrustSigners("web", oldPublic, nextPublic),
				kvregistry.TrustSigners("web", nextPublic)
			nc := s.Connect()
			owner, observer := openOn(t, nc, kvregistry.SignWith(old), both), open(t, s, both)
			register(t, owner, web("a"))
			sees(t, observer, natstest.Soon, "web", "a")
			defer neverGone(t, observer, "web")()

			if way.crashes {
				nc.Close()
			}
			successor := open(t, s, kvregistry.SignWith(next), both)
			register(t, successor, web(way.id))
			if !way.crashes {
				must(t, owner.Close())
			}
			sees(t, observer, natstest.Soon, "web", way.id)

			later := open(t, s, only)
			sees(t, later, natstest.Soon, "web", way.id)
			defer neverGone(t, later, "web")()
			last := open(t, s, kvregistry.SignWith(next), only)
			register(t, last, web(way.id))
			must(t, successor.Close())
			time.Sleep(2 * ttl) // by then every earlier lease has ended
			sees(t, later, 0, "web", way.id)
			sees(t, observer, 0, "web", way.id)
		})
	}
}

// A record that is signed with a key before it is trusted, or after, is hidden from a process that
// does not trust the key. An owner that does not trust the key takes its id back. If the newcomer
// does not trust the owner's key either, that repeats, with pauses. Seen to fail without a check of
// signers, with an owner that is fenced by an untrusted record, and with owners that do not pause:
// over a thousand messages in a second.
func TestSigningKeyIsRotatedInTheWrongOrder(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	old, _, oldPublic := userKey(t)
	next, _, nextPublic := userKey(t)
	trustsOld, trustsNext, both := kvregistry.TrustSigners("web", oldPublic),
		kvregistry.TrustSigners("web", nextPublic), kvregistry.TrustSigners("web", oldPublic,
			nextPublic)
	fenced := make(chan string, 2)
	owner := open(t, s, kvregistry.SignWith(old), trustsOld,
		kvregistry.OnFenced(func(kvregistry.Service) { fenced <- "the owner" }))
	register(t, owner, web("a"))

	if _, err := open(t, s, trustsNext).GetServices(t.Context(),
		"web"); !isErr(err, kvregistry.ErrNotFound) {
		t.Errorf("an owner signs with a key that it does not trust: %v", err)
	}
	if _, err := open(t, s, kvregistry.SignWith(next),
		trustsOld).Register(web("b")); !isErr(err, kvregistry.ErrInvalidService) {
		t.Errorf("a process that does not trust its own key registered: %v", err)
	}

	stranger := open(t, s, kvregistry.SignWith(next), trustsNext,
		kvregistry.OnFenced(func(kvregistry.Service) { fenced <- "the stranger" }))
	register(t, stranger, web("a"))
	natstest.Eventually(t, natstest.Soon, func() error {
		if a, b := owner.Health().Skipped, stranger.Health().Skipped; a < 3 || b < 3 {
			return fmt.Errorf("the owner and a stranger to it do not write in turn: they passed "+
				"over %d and %d of each other's", a, b)
		}
		return nil
	})
	before, began := lastSequence(t, s.Connect()), time.Now()
	time.Sleep(time.Second) // while they write
	n, took := lastSequence(t, s.Connect())-before, time.Since(began)
	if rate := float64(n) / took.Seconds(); rate > 200 { // with heartbeats and slots
		t.Errorf("%.0f messages a second", rate)
	}
	must(t, stranger.Close())

	early := open(t, s, kvregistry.SignWith(next), both,
		kvregistry.OnFenced(func(kvregistry.Service) { fenced <- "the early one" }))
	register(t, early, web("b"))
	observer := open(t, s, trustsOld)
	sees(t, observer, natstest.Soon, "web", "a")
	register(t, early, web("a"))
	select {
	case who := <-fenced:
		if who != "the early one" {
			t.Errorf("%s was fenced by a registration that it does not trust", who)
		}
	case <-time.After(natstest.Soon):
		t.Error("no owner was fenced")
	}
	must(t, owner.Close())
	sees(t, observer, natstest.Soon, "web")
	if _, err := observer.GetServices(t.Context(), "web"); !isErr(err, kvregistry.ErrNotFound) ||
		observer.Health().Skipped == 0 {
		t.Errorf("the new key is not trusted yet: %v, %d skipped", err, observer.Health().Skipped)
	}
	sees(t, open(t, s, both), natstest.Soon, "web", "b")
}

// lastSequence returns how many messages the default tenant's bucket has had.
func lastSequence(t *testing.T, nc *nats.Conn) uint64 {
	t.Helper()
	js, err := jetstream.New(nc)
	must(t, err)
	stream, err := js.Stream(t.Context(), "KV_registry_default")
	must(t, err)
	return stream.CachedInfo().State.LastSeq
}
