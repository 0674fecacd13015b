package doctor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

const (
	ttl  = 2 * time.Second
	here = "127.0.0.1:1"
)

// unreaped is a tenant with one process, which does not reap.
func unreaped(t *testing.T) *nats.Conn {
	t.Helper()
	nc := login(start(t))
	r := process(t, nc, kvregistry.TTL(ttl), kvregistry.WithoutReaping())
	register(t, r, "web", "1", here)
	return nc
}

// putLease writes a lease of another host by hand.
func putLease(t *testing.T, nc *nats.Conn, id, host string, ttl time.Duration) {
	t.Helper()
	put(t, nc, "lease."+id, fmt.Sprintf(`{"format":1,"owner":"O","host":%q,"pid":1,"ttl":%q}`,
		host, ttl), ttl)
}

var registrationFaults = []fault{
	{"no-reaper", Error, "no process holds a reaper slot", func(t *testing.T) (*nats.Conn, Config) {
		return unreaped(t), Config{}
	}},
	{"dead-registrations", Error, "1 registration has no living lease: svc.web.dead",
		func(t *testing.T) (*nats.Conn, Config) {
			nc := unreaped(t)
			put(t, nc, "svc.web.dead", record("dead", "OVER", here), 0)
			return nc, Config{}
		}},
	{"reaper-in-doubt", Warning, "1 registration outlived its lease",
		func(t *testing.T) (*nats.Conn, Config) {
			nc := unreaped(t)
			put(t, nc, "svc.web.dead", record("dead", "OVER", here), 0)
			put(t, nc, "reaper.0", `{"format":1,"owner":"O","beat":"B","ready":0}`, time.Minute)
			return nc, Config{}
		}},
	{"older-version", Hint, "left the consumer reaper", func(t *testing.T) (*nats.Conn, Config) {
		nc := login(start(t))
		provision(t, nc, tenant.Config{})
		js, err := jetstream.New(nc)
		must(t, err)
		_, err = js.CreateConsumer(t.Context(), stream,
			jetstream.ConsumerConfig{Durable: "reaper"})
		must(t, err)
		return nc, Config{}
	}},
	{"idle-leases", Hint, "1 lease without a registration",
		func(t *testing.T) (*nats.Conn, Config) {
			nc := login(start(t))
			r := process(t, nc, kvregistry.TTL(ttl))
			register(t, r, "web", "1", here)
			must(t, r.Unregister("web"))
			return nc, Config{}
		}},
	{"ttls", Warning, "unlike TTLs: 10s (1), 20s (1)", func(t *testing.T) (*nats.Conn, Config) {
		s := start(t)
		for n := range 2 {
			r := process(t, login(s), kvregistry.TTL(time.Duration(n+1)*10*time.Second))
			register(t, r, "web", fmt.Sprint(n), here)
		}
		return login(s), Config{}
	}},
	{"ttls", Hint, "a TTL of 2s", func(t *testing.T) (*nats.Conn, Config) {
		return unreaped(t), Config{}
	}},
	{"unreadable", Error, "1 record: svc.web.junk (", func(t *testing.T) (*nats.Conn, Config) {
		nc := unreaped(t)
		put(t, nc, "svc.web.junk", "junk", 0)
		return nc, Config{}
	}},
	{"unreadable", Warning, "a newer format: svc.web.new", func(t *testing.T) (*nats.Conn, Config) {
		nc := unreaped(t)
		put(t, nc, "svc.web.new", `{"format":2,"lease":"L"}`, 0)
		return nc, Config{}
	}},
	{"unreadable", Warning, "longer than 65536 bytes: svc.web.long (",
		func(t *testing.T) (*nats.Conn, Config) {
			nc := unreaped(t)
			put(t, nc, "svc.web.long", record("long", "L", strings.Repeat("a", 70_000)), 0)
			return nc, Config{}
		}},
	{"addresses", Warning, `svc.web.1 at "` + here + `"`, func(t *testing.T) (*nats.Conn, Config) {
		nc := unreaped(t)
		putLease(t, nc, "FAR", "far", time.Minute)
		return nc, Config{}
	}},
	{"addresses", Warning, "one to listen at", func(t *testing.T) (*nats.Conn, Config) {
		nc := unreaped(t)
		putLease(t, nc, "FAR", "far", time.Minute)
		put(t, nc, "svc.web.any", record("any", "FAR", "0.0.0.0:80"), 0)
		return nc, Config{}
	}},
	{"silent-addresses", Warning, "1 instance does not answer: svc.web.1",
		func(t *testing.T) (*nats.Conn, Config) {
			nc := login(start(t))
			register(t, process(t, nc), "web", "1",
				fmt.Sprintf("127.0.0.1:%d", natstest.FreePort(t)))
			return nc, Config{Dial: true}
		}},
	{"shared-addresses", Warning, `"` + here + `" by svc.web.1, svc.web.2`,
		func(t *testing.T) (*nats.Conn, Config) {
			nc := login(start(t))
			r := process(t, nc)
			register(t, r, "web", "1", here)
			register(t, r, "web", "2", here)
			return nc, Config{}
		}},
	{"shared-addresses", Hint, "svc.api.1, svc.web.1", func(t *testing.T) (*nats.Conn, Config) {
		nc := login(start(t))
		r := process(t, nc)
		register(t, r, "web", "1", here)
		register(t, r, "api", "1", here)
		return nc, Config{}
	}},
	{"contested", Error, "svc.web.1 (", func(t *testing.T) (*nats.Conn, Config) {
		nc := login(start(t))
		one, other := process(t, nc), process(t, nc)
		repeat(t, func() {
			for _, r := range []*kvregistry.Registry{one, other} {
				_, _ = r.Register(kvregistry.Service{Name: "web", ID: "1", Address: here})
			}
		})
		return nc, Config{}
	}},
}
