package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

const (
	name   = "acme"
	bucket = "registry_acme"
	stream = "KV_registry_acme"
	watch  = 100 * time.Millisecond
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// accounts has an account with JetStream and the system account, each with one user.
func accounts(t *testing.T, limits string) func(*server.Options) {
	opts := natstest.Configured(t, `accounts: {
	A: { jetstream: `+limits+`, users: [{ user: root, password: p }] }
	SYS: { users: [{ user: sys, password: p }] }
}
system_account: SYS
`)
	return func(o *server.Options) {
		o.Accounts, o.Users, o.SystemAccount = opts.Accounts, opts.Users, opts.SystemAccount
	}
}

// start runs a server with accounts.
func start(t *testing.T, change ...func(*server.Options)) *natstest.Server {
	t.Helper()
	return natstest.Start(t, append([]func(*server.Options){accounts(t, "enabled")}, change...)...)
}

// login logs in as the user of the account.
func login(s *natstest.Server, opts ...nats.Option) *nats.Conn {
	return s.Connect(append(opts, nats.UserInfo("root", "p"))...)
}

// systemOf logs in to the system account.
func systemOf(s *natstest.Server, opts ...nats.Option) *nats.Conn {
	return s.Connect(append(opts, nats.UserInfo("sys", "p"))...)
}

func provision(t *testing.T, nc *nats.Conn, cfg tenant.Config) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		return operator.Provision(t.Context(), nc, name, cfg)
	})
}

// edit changes the stream under the bucket.
func edit(t *testing.T, nc *nats.Conn, change func(*jetstream.StreamConfig)) {
	t.Helper()
	js, err := jetstream.New(nc)
	must(t, err)
	cfg := natstest.Stream(t, nc, stream).CachedInfo().Config
	change(&cfg)
	_, err = js.UpdateStream(t.Context(), cfg)
	must(t, err)
}

// process opens a registry of the tenant, as a process would.
func process(t *testing.T, nc *nats.Conn, opts ...kvregistry.Option) *kvregistry.Registry {
	t.Helper()
	r, err := kvregistry.New(t.Context(), nc, append([]kvregistry.Option{kvregistry.Tenant(name),
		kvregistry.Logger(slog.New(slog.DiscardHandler))}, opts...)...)
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func register(t *testing.T, r *kvregistry.Registry, service, id, address string) {
	t.Helper()
	_, err := r.Register(kvregistry.Service{Name: service, ID: id, Address: address})
	if !errors.Is(err, kvregistry.ErrPending) { // on a slow machine it is made later
		must(t, err)
	}
}

// reaping waits until a registry holds a slot.
func reaping(t *testing.T, r *kvregistry.Registry) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		if !r.Health().Reaps {
			return errors.New("it does not reap")
		}
		return nil
	})
}

// put writes a key by hand, with a TTL if there is one.
func put(t *testing.T, nc *nats.Conn, key, value string, ttl time.Duration) {
	t.Helper()
	js, err := jetstream.New(nc)
	must(t, err)
	m := nats.NewMsg("$KV." + bucket + "." + key)
	m.Data = []byte(value)
	if ttl > 0 {
		m.Header.Set(jetstream.MsgTTLHeader, ttl.String())
	}
	_, err = js.PublishMsg(t.Context(), m)
	must(t, err)
}

// record is the value of a registration of service web.
func record(id, lease, address string) string {
	return fmt.Sprintf(`{"format":1,"lease":%q,"owner":"O","instance":{"id":%q,"name":"web",`+
		`"address":%q}}`, lease, id, address)
}

// has returns an error unless the report has such a finding.
func (r Report) has(name string, s Severity, seen string) error {
	for _, f := range r.Findings {
		if f.Name == name && f.Severity == s && strings.Contains(f.Seen, seen) && f.Why != "" &&
			f.Mend != "" {
			return nil
		}
	}
	var b bytes.Buffer
	r.Print(&b)
	return fmt.Errorf("no %s %s with %q in: %s", s, name, seen, b.String())
}

// finds waits until an examination has such a finding.
func finds(t *testing.T, nc *nats.Conn, cfg Config, check string, s Severity, seen string) {
	t.Helper()
	natstest.Eventually(t, 2*natstest.Soon, func() error {
		return examine(t, nc, cfg).has(check, s, seen)
	})
}

func examine(t *testing.T, nc *nats.Conn, cfg Config) Report {
	t.Helper()
	cfg.Tenant = name
	if cfg.Watch == 0 {
		cfg.Watch = watch
	}
	r, err := Examine(t.Context(), nc, cfg)
	must(t, err)
	return r
}

// edited dials connections on which a text that the server sends is replaced by one of its length.
type edited struct{ from, to string }

func (e edited) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return editedConn{c, e}, err
}

type editedConn struct {
	net.Conn
	edited
}

func (c editedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	copy(p, bytes.ReplaceAll(p[:n], []byte(c.from), []byte(c.to)))
	return n, err
}

// late dials connections on which everything arrives late.
type late time.Duration

func (l late) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return lateConn{c, time.Duration(l)}, err
}

type lateConn struct {
	net.Conn
	by time.Duration
}

func (c lateConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	time.Sleep(c.by) // the fault itself
	return n, err
}

// site is a hub with the tenant's bucket, and a leaf node.
func site(t *testing.T) (hub, leaf *natstest.Server) {
	t.Helper()
	port := natstest.FreePort(t)
	hub = natstest.Start(t, func(o *server.Options) {
		o.ServerName, o.JetStreamDomain = "hub", "hub"
		o.LeafNode = server.LeafNodeOpts{Host: "127.0.0.1", Port: port, NoAdvertise: true}
	})
	remote := &url.URL{Scheme: "nats-leaf", Host: fmt.Sprintf("127.0.0.1:%d", port)}
	leaf = natstest.Start(t, func(o *server.Options) {
		o.ServerName, o.JetStreamDomain = "leaf", "leaf"
		o.LeafNode = server.LeafNodeOpts{ReconnectInterval: 50 * time.Millisecond,
			Remotes: []*server.RemoteLeafOpts{{URLs: []*url.URL{remote}}}}
	})
	natstest.Eventually(t, natstest.Soon, func() error {
		if leaf.Server().NumLeafNodes() == 0 || hub.Server().NumLeafNodes() == 0 {
			return errors.New("the leaf node has no connection")
		}
		return nil
	})
	provision(t, hub.Connect(), tenant.Config{})
	return hub, leaf
}

// mirrored makes the mirror at the leaf node, and waits until the mirror hears of the hub.
func mirrored(t *testing.T, leaf *nats.Conn) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		return operator.MakeMirror(t.Context(), leaf, name, "hub")
	})
	natstest.Eventually(t, natstest.Soon, func() error {
		m := natstest.Stream(t, leaf, stream).CachedInfo().Mirror
		if m == nil || m.Active < 0 || m.Active > time.Second {
			return errors.New("the mirror has not heard of the hub")
		}
		return nil
	})
}

// repeat calls f again and again until the test ends.
func repeat(t *testing.T, f func()) {
	t.Helper()
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
				f()
			}
		}
	})
	t.Cleanup(func() { close(end); wg.Wait() })
}
