package integration

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 4: a view whose consumer is deleted notices that, and misses no change. Seen to fail
// without the check for silence.
func TestDeletedConsumerIsMended(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, observer := open(t, s, kvregistry.WithoutReaping()),
		open(t, s, kvregistry.WithoutReaping())
	sees(t, observer, natstest.Soon, "web")
	nc := s.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range natstest.Consumers(t, nc, "KV_registry_default") {
		if err := js.DeleteConsumer(t.Context(), "KV_registry_default", name); err != nil {
			t.Fatal(err)
		}
	}
	register(t, owner, web("a"))
	took := sees(t, observer, natstest.Soon, "web", "a")
	t.Logf("the view was right after %s", took.Round(time.Millisecond))
}

// Invariant 4: the dead are removed even after the reapers' consumers were deleted. Seen to fail
// with a follower that does not notice silence.
func TestDeletedReaperConsumers(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	observer := open(t, s)
	p := start(t, plan{URL: s.URL(), Services: []kvService{web("a")}})
	sees(t, observer, natstest.Soon, "web", "a")
	nc := s.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		deleted := errors.New("no reaper follows the bucket")
		for _, name := range natstest.Consumers(t, nc, "KV_registry_default") {
			if strings.HasPrefix(name, "reaper-") {
				deleted = js.DeleteConsumer(t.Context(), "KV_registry_default", name)
			}
		}
		return deleted
	})
	p.kill()
	sees(t, observer, removal, "web")
}

// Invariants 4, 5 and 7: if a bucket allows no further consumer, a look-up returns ErrUnavailable,
// and succeeds when a consumer is allowed. The view tries again a few times a second at most.
func TestMaxConsumersReached(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	first := open(t, s)
	register(t, first, web("a"))
	stream, err := js.Stream(t.Context(), "KV_registry_default")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), cfg.Name); err != nil {
		t.Fatal(err)
	}
	cfg.MaxConsumers = 2
	// see TestTenantIsMadeAnewAtOnce of package tenant
	natstest.Eventually(t, natstest.Soon, func() error {
		stream, err = js.CreateStream(t.Context(), cfg)
		return err
	})
	began := time.Now()
	observer := open(t, s, kvregistry.WithoutReaping(), kvregistry.Timeout(300*time.Millisecond))
	for _, name := range []string{"one", "two"} {
		// a new observer's scan for the dead has a consumer for a moment
		natstest.Eventually(t, natstest.Soon, func() error {
			_, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: name})
			return err
		})
	}
	if _, err := observer.GetService("web"); !isErr(err, kvregistry.ErrUnavailable) ||
		!strings.Contains(err.Error(), "consumers limit") {
		t.Errorf("the look-up gave %v, want ErrUnavailable with the reason", err)
	}
	time.Sleep(ttl) // the view may try again meanwhile, but not all the time
	if h, most := observer.Health(), 12+2*uint64(time.Since(began)/time.Second); h.OK() ||
		h.Resyncs > most {
		t.Errorf("without a consumer, after %s: %+v", time.Since(began), h)
	}
	if err := stream.DeleteConsumer(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if _, err := observer.GetService("web"); !isErr(err, kvregistry.ErrNotFound) {
			return errors.Join(errors.New("the look-up does not succeed"), err)
		}
		return nil
	})
}

func deleteViews(t *testing.T, nc *nats.Conn) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range views(natstest.Consumers(t, nc, "KV_registry_default")) {
		if err := js.DeleteConsumer(t.Context(), "KV_registry_default", name); err != nil {
			t.Fatal(err)
		}
	}
}
