package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 12: a connection that is busy with its user's own messages for seconds loses none of
// them because of the registry: nothing reconnects, no view is made anew, and no lease is lost.
// Seen to fail with a view that takes silence for a loss, and with heartbeats whose late answers do
// not count.
func TestBusyConnection(t *testing.T) {
	t.Parallel()
	const messages, size, rate = 96, 64 << 10, 512 // bytes, KB a second
	s := natstest.Start(t)
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	nc := natstest.Connect(t, l.URL())
	lost := make(chan error, 1)
	r := openOn(t, nc, kvregistry.TTL(kvregistry.DefaultTTL), kvregistry.OnLeaseLost(func(err error) { lost <- err }))
	register(t, r, web("a"))
	sees(t, r, natstest.Soon, "web", "a")
	sub, err := nc.SubscribeSync("data")
	must(t, err)
	must(t, nc.Flush())
	l.toxic("narrow-down", "bandwidth", down, fmt.Sprintf(`"rate": %d`, rate))
	before := r.Health().Resyncs
	began := time.Now()
	sender := s.Connect()
	for range messages {
		must(t, sender.Publish("data", make([]byte, size)))
	}
	must(t, sender.Flush())
	for n := range messages {
		if _, err := sub.NextMsg(30 * time.Second); err != nil {
			t.Fatalf("message %d: %v", n, err)
		}
	}
	took := time.Since(began)
	t.Logf("%d messages in %s", messages, took.Round(time.Millisecond))
	if took < 6*time.Second {
		t.Errorf("the link was not busy")
	}
	natstest.Eventually(t, natstest.Soon, func() error { // a heartbeat that was sent meanwhile, and one after it
		if renewed := r.Health().Renewed; !renewed.After(began.Add(took)) {
			return fmt.Errorf("the last heartbeat was %s after the beginning", renewed.Sub(began))
		}
		return nil
	})
	if h := r.Health(); !h.OK() || h.Resyncs != before || nc.Stats().Reconnects != 0 || len(lost) > 0 {
		t.Errorf("%d reconnects, %d leases lost: %+v", nc.Stats().Reconnects, len(lost), h)
	}
}

// Invariant 2: heartbeats go on while answers are held back, on the same connection and under the
// same lease: the next one does not wait for the answer to the one before. Seen to fail with at
// most one heartbeat under way.
func TestHeartbeatsWithoutAnswers(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	nc := natstest.Connect(t, l.URL())
	r := openOn(t, nc, kvregistry.TTL(6*time.Second), kvregistry.WithoutReaping())
	register(t, r, web("a"))
	sub, err := s.Connect().SubscribeSync("$KV.registry_default." + "lease." + inside.Lease(r).ID)
	must(t, err)
	l.blackhole(down)
	for n := range 4 { // one may have been answered before
		if _, err := sub.NextMsg(natstest.Soon); err != nil {
			t.Fatalf("heartbeat %d does not come: %v", n, err)
		}
	}
	if n := nc.Stats().Reconnects; n != 0 {
		t.Errorf("%d reconnects", n)
	}
	l.heal()
}
