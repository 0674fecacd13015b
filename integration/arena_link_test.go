package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/kvregistry/go/internal/natstest"
)

// link is a TCP proxy in front of one server, which can be made to fail. Both ends are on loopback.
type link struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
}

func (l *link) URL() string { return "nats://" + l.proxy.Listen }

// cut closes every connection and refuses new ones.
func (l *link) cut() { l.proxy.Stop() }

// blackhole drops all bytes in the given directions, and leaves connections open. New connections
// are accepted, and are dead too.
func (l *link) blackhole(ways ...direction) {
	for _, way := range ways {
		l.toxic("hole-"+string(way), "timeout", way, `"timeout": 0`)
	}
}

// delay holds back all bytes, in both directions.
func (l *link) delay(ms int) {
	for _, way := range []direction{up, down} {
		l.toxic("delay-"+string(way), "latency", way, fmt.Sprintf(`"latency": %d, "jitter": %d`, ms,
			ms/4))
	}
}

// narrow limits the rate towards the server, in KB a second.
func (l *link) narrow(rate int) {
	l.toxic("narrow", "bandwidth", up,
		fmt.Sprintf(`"rate": %d`, rate))
}

// slowClose closes connections late.
func (l *link) slowClose(ms int) {
	l.toxic("slow-close", "slow_close", down, fmt.Sprintf(`"delay": %d`, ms))
}

func (l *link) toxic(name, kind string, way direction, attributes string) {
	text := fmt.Sprintf(`{"name": %q, "type": %q, "stream": %q, "toxicity": 1, "attributes": {%s}}`,
		name, kind, way, attributes)
	if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
		l.t.Errorf("link: %v", err)
	}
}

// heal ends every fault. It closes connections that lost bytes, because TCP does not repeat what it
// has acknowledged.
func (l *link) heal() {
	l.proxy.Toxics.ResetToxics(context.Background())
	if err := l.proxy.Start(); err != nil && err != toxiproxy.ErrProxyAlreadyStarted {
		l.t.Errorf("link: %v", err)
	}
}

// renew closes every connection once. New ones work.
func (l *link) renew() {
	l.cut()
	l.heal()
}

// direction is the direction that a link's fault applies to.
type direction string

const (
	up   direction = "upstream"   // bytes to the server
	down direction = "downstream" // bytes from the server
)

// newLink makes a link to a server's address, until the test ends.
func newLink(t testing.TB, address string) *link {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &link{t: t, proxy: toxiproxy.NewProxy(server, address,
		fmt.Sprintf("127.0.0.1:%d", natstest.FreePort(t)), address)}
	if err := l.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.proxy.Stop)
	return l
}
