// Package natstest runs real nats-servers inside a test: one, or a cluster of three, on loopback.
// Each has a store of its own, so that it can be stopped and started again on its data.
package natstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/embedded"
)

// Server is a nats-server in this process.
type Server struct {
	t    testing.TB
	opts server.Options
	srv  *server.Server
}

// Start runs a server with JetStream until the test ends. change may alter its options.
func Start(t testing.TB, change ...func(*server.Options)) *Server {
	t.Helper()
	skipIfShort(t)
	s := &Server{t: t, opts: embedded.Options(FreePort(t), t.TempDir())}
	for _, f := range change {
		f(&s.opts)
	}
	s.Up()
	t.Cleanup(s.Down)
	return s
}

// Configured returns the options that nats-server reads from the text of a configuration file.
func Configured(t testing.TB, text string) *server.Options {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatalf("%v, of:\n%s", err, text)
	}
	return opts
}

// Up starts the server on its data.
func (s *Server) Up() {
	s.t.Helper()
	s.start()
	if !s.srv.ReadyForConnections(embedded.StartTime) {
		s.t.Fatalf("nats-server is not ready after %s", embedded.StartTime)
	}
}

func (s *Server) start() {
	s.t.Helper()
	srv, err := embedded.Start(s.opts)
	if err != nil {
		s.t.Fatal(err)
	}
	s.srv = srv
}

// Down stops the server, and keeps its data.
func (s *Server) Down() {
	if s.srv != nil {
		embedded.Stop(s.srv)
		s.srv = nil
	}
}

// Outage stops the server for a time and starts it again.
func (s *Server) Outage(d time.Duration) {
	s.t.Helper()
	s.Down()
	time.Sleep(d) // the fault itself, not a wait for a condition
	s.Up()
}

// URL returns the server's address for clients.
func (s *Server) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.opts.Port) }

// Server returns the running server.
func (s *Server) Server() *server.Server { return s.srv }

// Connect connects to the server until the test ends, and reconnects quickly after an outage.
func (s *Server) Connect(opts ...nats.Option) *nats.Conn {
	s.t.Helper()
	return Connect(s.t, s.URL(), opts...)
}

// Connect connects to a server until the test ends, within [Soon], and reconnects quickly after an
// outage.
func Connect(t testing.TB, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	base := []nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond),
		nats.ReconnectJitter(10*time.Millisecond, 10*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // the default one prints
	}
	var nc *nats.Conn
	Eventually(t, Soon, func() (err error) { // one try takes 2 s at most
		nc, err = nats.Connect(url, append(base, opts...)...)
		return err
	})
	t.Cleanup(nc.Close)
	return nc
}

// FreePort returns a port of loopback that nothing listens on, and that no test was given before.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := embedded.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Cluster runs three servers with JetStream until the test ends. change may alter their options.
func Cluster(t testing.TB, change ...func(*server.Options)) []*Server {
	t.Helper()
	skipIfShort(t)
	var routes []string
	var ports []int
	for range 3 {
		p := FreePort(t)
		ports = append(ports, p)
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", p))
	}
	var list []*Server
	for i := range 3 {
		s := &Server{t: t, opts: embedded.Options(FreePort(t), t.TempDir())}
		s.opts.ServerName = fmt.Sprintf("n%d", i)
		s.opts.Routes = server.RoutesFromStr(strings.Join(routes, ","))
		s.opts.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}
		for _, f := range change {
			f(&s.opts)
		}
		s.start()
		t.Cleanup(s.Down)
		list = append(list, s)
	}
	AwaitCluster(t, list)
	return list
}

// AwaitCluster waits until the servers that are up have a JetStream leader among them, follow it,
// and are known to it, so that it gives them replicas.
func AwaitCluster(t testing.TB, list []*Server) {
	t.Helper()
	Eventually(t, 30*time.Second, func() error {
		up, leaders, known := 0, 0, 0
		for _, s := range list {
			if s.srv == nil {
				continue
			}
			up++
			if !s.srv.ReadyForConnections(time.Second) || !s.srv.JetStreamIsCurrent() {
				return errors.New("a server is not current")
			}
			if s.srv.JetStreamIsLeader() {
				leaders++
				known = len(s.srv.JetStreamClusterPeers())
			}
		}
		if leaders != 1 || known < up {
			return fmt.Errorf("%d leaders, and %d of %d servers known", leaders, known, up)
		}
		return nil
	})
}

// AwaitReplicas waits until every replica of a stream is there and has all that its leader has.
// After many faults a node may need long.
func AwaitReplicas(t testing.TB, nc *nats.Conn, stream string, replicas int) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	Eventually(t, 2*time.Minute, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		c := s.CachedInfo().Cluster
		if c == nil || c.Leader == "" || len(c.Replicas) != replicas-1 {
			return fmt.Errorf("stream %s has no leader, or not %d replicas", stream, replicas)
		}
		for _, r := range c.Replicas {
			if !r.Current || r.Offline {
				return fmt.Errorf("replica %s of stream %s lags", r.Name, stream)
			}
		}
		return nil
	})
}

// URLs returns the addresses of several servers, for one client.
func URLs(list []*Server) string {
	urls := ""
	for i, s := range list {
		if i > 0 {
			urls += ","
		}
		urls += s.URL()
	}
	return urls
}

// StreamLeader returns the server that leads a stream.
func StreamLeader(t testing.TB, list []*Server, stream string) *Server {
	t.Helper()
	var leader *Server
	Eventually(t, 10*time.Second, func() error {
		for _, s := range list {
			if s.srv != nil && s.srv.JetStreamIsStreamLeader("$G", stream) {
				leader = s
				return nil
			}
		}
		return fmt.Errorf("stream %s has no leader", stream)
	})
	return leader
}

// Stream returns a stream that is there.
func Stream(t testing.TB, nc *nats.Conn, stream string) jetstream.Stream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Consumers returns the names of the consumers of a stream.
func Consumers(t testing.TB, nc *nats.Conn, stream string) (names []string) {
	t.Helper()
	list := Stream(t, nc, stream).ConsumerNames(t.Context())
	for name := range list.Name() {
		names = append(names, name)
	}
	if list.Err() != nil {
		t.Fatal(list.Err())
	}
	return names
}

// Run runs a server for an example, which has no test to end it with.
func Run() (url string, stop func()) {
	dir, err := os.MkdirTemp("", "natstest")
	if err != nil {
		panic(err)
	}
	srv, err := embedded.Start(embedded.Options(server.RANDOM_PORT, dir))
	if err != nil {
		panic(err)
	}
	if !srv.ReadyForConnections(embedded.StartTime) {
		panic("nats-server is not ready after " + embedded.StartTime.String())
	}
	return srv.ClientURL(), func() {
		embedded.Stop(srv)
		_ = os.RemoveAll(dir)
	}
}
