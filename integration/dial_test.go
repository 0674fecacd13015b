package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// A connection of Dial needs no server to begin with, and notices within 10 s that a peer is gone
// without a word; the caller's options override its own. Seen to fail with nats.Connect in place of
// Dial.
func TestDial(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	l.cut()
	lost := make(chan time.Time, 1)
	nc, err := kvregistry.Dial(l.URL(), nats.Name("mine"), nats.Timeout(time.Second),
		nats.DisconnectErrHandler(func(*nats.Conn, error) {
			select {
			case lost <- time.Now():
			default:
			}
		}))
	must(t, err)
	t.Cleanup(nc.Close)
	if nc.Opts.Name != "mine" || nc.Opts.MaxReconnect != -1 {
		t.Errorf("options: name %q, reconnects %d", nc.Opts.Name, nc.Opts.MaxReconnect)
	}
	r := openOn(t, nc)
	l.heal()
	register(t, r, web("a"))
	sees(t, r, natstest.Soon, "web", "a")
	l.blackhole(up, down)
	if o := nc.Opts; o.PingInterval*time.Duration(o.MaxPingsOut+1) > 10*time.Second {
		t.Errorf("a dead peer is noticed after %d pings, one every %s", o.MaxPingsOut+1, o.PingInterval)
	}
	began := time.Now()
	select {
	case at := <-lost:
		t.Logf("noticed after %s", at.Sub(began).Round(time.Millisecond))
	case <-time.After(10*time.Second + natstest.Soon):
		t.Error("a dead peer is not noticed")
	}
	l.cut() // so that Close need not wait
}
