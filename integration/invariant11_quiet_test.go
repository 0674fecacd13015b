package integration

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 11, quiet: a heartbeat is one message on its lease's key and reaches no observer, for
// any number of registrations and observers. Seen to fail with heartbeats that write a
// registration's key too, and with views that watch leases.
func TestHeartbeatsReachNoObserver(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := open(t, s)
	for i := range 50 {
		register(t, owner, kvregistry.Service{ID: fmt.Sprint(i), Name: fmt.Sprintf("s%d", i%7),
			Address: "127.0.0.1:1"})
	}
	for range 3 {
		o := open(t, s)
		if err := o.ObserveContext(t.Context(), kvregistry.Everything); err != nil {
			t.Fatal(err)
		}
	}
	plain := s.Connect()
	count := func(subject string) func() (int, map[string]bool) {
		sub, err := plain.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		if err := plain.Flush(); err != nil {
			t.Fatal(err)
		}
		return func() (n int, subjects map[string]bool) {
			subjects = map[string]bool{}
			for {
				msg, err := sub.NextMsg(time.Millisecond)
				if err == nats.ErrTimeout {
					return n, subjects
				}
				if err != nil {
					t.Fatal(err)
				}
				n++
				subjects[msg.Subject] = true
			}
		}
	}
	began := time.Now()
	svc, lease := count("$KV.registry_default.svc.>"), count("$KV.registry_default.lease.>")
	before := settled(t, plain)
	time.Sleep(3 * ttl) // the time that is watched
	if after := delivered(t, plain); !maps.Equal(after, before) {
		t.Errorf("the views' consumers had sent %v, and now %v", before, after)
	}
	if n, which := svc(); n != 0 {
		t.Errorf("%d messages on svc.>: %v", n, which)
	}
	n, which := lease()
	if len(which) != 1 {
		t.Errorf("heartbeats of %d leases, want those of one: %v", len(which), which)
	}
	// A heartbeat comes up to a tenth early, and again if the server answers slowly.
	if took := time.Since(began); n < 3 || n > 2*int(took/(ttl*3/10))+1 {
		t.Errorf("%d heartbeats in %s, want 9 or 10 in three TTLs", n, took)
	}
}

// settled returns what the views' consumers have sent, once no view changes its consumer any more.
func settled(t *testing.T, nc *nats.Conn) (n map[string]uint64) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		n = delivered(t, nc)
		// longer than a view waits for further filters, shorter than a heartbeat's interval
		time.Sleep(ttl / 4)
		if now := delivered(t, nc); !maps.Equal(now, n) {
			return fmt.Errorf("the views' consumers have sent %v, now %v", n, now)
		}
		return nil
	})
	return n
}

// delivered returns how many messages the consumer of each view has sent so far.
func delivered(t *testing.T, nc *nats.Conn) map[string]uint64 {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]uint64{}
	for _, name := range views(natstest.Consumers(t, nc, "KV_registry_default")) {
		c, err := js.PushConsumer(t.Context(), "KV_registry_default", name)
		// a view's earlier consumer, which is being deleted
		if isErr(err, jetstream.ErrConsumerNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		n[name] = c.CachedInfo().Delivered.Consumer
	}
	return n
}
