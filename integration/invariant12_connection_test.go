package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 12: a connection that is busy with its user's messages for seconds loses none of them
// because of the registry. The connection stays, the view keeps its session, and no lease is lost.
// Seen to fail with a view that takes silence for a loss, and with heartbeats whose late answers do
// not count.
func TestBusyConnection(t *testing.T) {
	t.Parallel()
	const messages, size, rate = 96, 64 << 10, 512 // bytes, KB a second
	s := natstest.Start(t)
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	nc := natstest.Connect(t, l.URL())
	lost := make(chan error, 1)
	r := openOn(t, nc, kvregistry.TTL(kvregistry.DefaultTTL),
		kvregistry.OnLeaseLost(func(err error) { lost <- err }))
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
		t.Errorf("the link was not busy long enough")
	}
	// a heartbeat was sent meanwhile, and another one after that
	natstest.Eventually(t, natstest.Soon, func() error {
		if renewed := r.Health().Renewed; !renewed.After(began.Add(took)) {
			return fmt.Errorf("the last heartbeat was %s after the beginning", renewed.Sub(began))
		}
		return nil
	})
	if h := r.Health(); !h.OK() || h.Resyncs != before || nc.Stats().Reconnects != 0 ||
		len(lost) > 0 {
		t.Errorf("there were %d reconnects and %d lost leases: %+v", nc.Stats().Reconnects,
			len(lost), h)
	}
}

// Invariant 12: with ForceReconnect, a connection that is silently dead in either direction is
// replaced, long before NATS's own pings notice. Without the option the connection is left alone.
// Seen to fail without Revive.
func TestDeadConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	for trial, name := range []string{"both ways", "towards the server", "from the server"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, took := range blackholeFigure(t, trial) { // 30 s at most
				t.Logf("it was connected again after %s", took.Round(time.Millisecond))
			}
		})
	}
	t.Run("left alone", func(t *testing.T) {
		t.Parallel()
		s := natstest.Start(t)
		l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
		nc := natstest.Connect(t, l.URL())
		r := openOn(t, nc)
		register(t, r, web("a"))
		l.blackhole(up, down)
		natstest.Eventually(t, natstest.Soon, func() error {
			if r.Health().Lease != kvregistry.LeaseGone {
				return errors.New("the lease is not lost")
			}
			return nil
		})
		time.Sleep(ttl) // the connection must stay meanwhile
		if !nc.IsConnected() || nc.Stats().Reconnects != 0 {
			t.Error("the connection was replaced")
		}
		l.cut()
	})
}
