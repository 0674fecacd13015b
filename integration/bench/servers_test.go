package bench

import (
	"log/slog"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// synced runs f for servers that do not force each write to disk before they acknowledge it, and
// for servers that do. By default JetStream does not and etcd does, so each is measured once by its
// default and once like the other.
func synced(b *testing.B, f func(b *testing.B, fsync bool)) {
	b.Run("fsync=no", func(b *testing.B) { f(b, false) })
	b.Run("fsync=yes", func(b *testing.B) { f(b, true) })
}

// jetStream runs a nats-server in this process.
func jetStream(b *testing.B, fsync bool) *natstest.Server {
	b.Helper()
	return natstest.Start(b, func(o *server.Options) { o.SyncAlways = fsync })
}

// fresh returns a registry on a connection of its own, which holds a lease already.
func fresh(b *testing.B, server *natstest.Server, opts ...kvregistry.Option) *kvregistry.Registry {
	b.Helper()
	reg := idle(b, server.Connect(), opts...)
	_, err := reg.Register(kvregistry.Service{Name: "other", Address: "10.0.0.1:80"})
	try(b, err)
	return reg
}

// idle returns a registry that holds nothing yet.
func idle(b *testing.B, nc *nats.Conn, opts ...kvregistry.Option) *kvregistry.Registry {
	b.Helper()
	reg, err := kvregistry.New(b.Context(), nc,
		append(opts, kvregistry.Logger(slog.New(slog.DiscardHandler)))...)
	try(b, err)
	b.Cleanup(func() { _ = reg.Close() })
	return reg
}

// bucket returns the registry's bucket, on a connection of its own and without a registry.
func bucket(b *testing.B, server *natstest.Server) (jetstream.JetStream, jetstream.KeyValue) {
	b.Helper()
	nc := server.Connect()
	reg := idle(b, nc) // makes it
	try(b, reg.Close())
	js, err := jetstream.New(nc)
	try(b, err)
	kv, err := js.KeyValue(b.Context(), "registry_default")
	try(b, err)
	return js, kv
}

// etcdServer is an etcd in this process.
type etcdServer struct {
	b       *testing.B
	server  *embed.Etcd
	clients []*clientv3.Client
	once    sync.Once
}

// etcd runs an etcd until the benchmark ends, or it is stopped.
func etcd(b *testing.B, fsync bool) *etcdServer {
	b.Helper()
	loopback := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg := embed.NewConfig()
	cfg.Dir, cfg.UnsafeNoFsync, cfg.LogLevel = b.TempDir(), !fsync, "fatal"
	cfg.ListenClientUrls, cfg.ListenPeerUrls = loopback, loopback
	server, err := embed.StartEtcd(cfg)
	try(b, err)
	e := &etcdServer{b: b, server: server}
	b.Cleanup(e.stop)
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(30 * time.Second):
		b.Fatal("etcd is not ready after 30 s")
	}
	return e
}

// connect connects to it until it is stopped.
func (e *etcdServer) connect() *clientv3.Client {
	e.b.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.server.Clients[0].Addr().String()},
		Context: e.b.Context(), Logger: zap.NewNop()})
	try(e.b, err)
	e.clients = append(e.clients, c)
	return c
}

// stop ends the clients first: etcd waits for them.
func (e *etcdServer) stop() {
	e.once.Do(func() {
		for _, c := range e.clients {
			_ = c.Close()
		}
		e.server.Close()
	})
}

// lease returns a lease that lives as long as the benchmark.
func lease(b *testing.B, c *clientv3.Client) clientv3.OpOption {
	b.Helper()
	granted, err := c.Grant(b.Context(), 15)
	try(b, err)
	alive, err := c.KeepAlive(b.Context(), granted.ID)
	try(b, err)
	go func() { // ends with the client
		for range alive {
		}
	}()
	return clientv3.WithLease(granted.ID)
}

// naming returns etcd's own layer for service discovery.
func naming(b *testing.B, c *clientv3.Client) endpoints.Manager {
	b.Helper()
	m, err := endpoints.NewManager(c, "web")
	try(b, err)
	return m
}
