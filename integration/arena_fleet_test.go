package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
)

// node is a nats-server in a process of its own. Its store and its ports stay the same until the
// test ends.
type node struct {
	t     testing.TB
	plan  nodePlan
	proc  *process // nil while it is down
	links []*link  // to and from the other nodes
}

func (n *node) address() string { return fmt.Sprintf("127.0.0.1:%d", n.plan.Port) }

// start starts the server on its store. It does not wait until the server is ready.
func (n *node) start() {
	if n.proc == nil {
		n.proc = spawn(n.t, "SERVER", n.plan)
	}
}

func (n *node) up() {
	n.start()
	n.proc.await("ready", 30*time.Second)
}

// kill ends the server like a crash.
func (n *node) kill() {
	if n.proc != nil {
		n.proc.kill()
		n.proc = nil
	}
}

// stop ends the server gracefully: how is "stop" or "lameduck".
func (n *node) stop(how string) {
	if n.proc == nil {
		return
	}
	n.proc.tell(how)
	for range n.proc.lines {
		// wait until the process has closed its output
	}
	n.kill()
}

func (n *node) wipe() {
	if err := os.RemoveAll(n.plan.Store); err != nil {
		n.t.Error(err)
	}
}

func (n *node) freeze() {
	if n.proc != nil {
		n.proc.freeze()
	}
}

func (n *node) thaw() {
	if n.proc != nil {
		_ = n.proc.cmd.Process.Signal(syscall.SIGCONT)
	}
}

// nodePlan is the setup of a server process.
type nodePlan struct {
	Name        string
	Port        int
	ClusterPort int // 0 on a single server
	Routes      string
	Store       string
}

// serverProcess runs a nats-server until its standard input ends, or until it is told to stop.
func serverProcess(text string) int {
	var p nodePlan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		fmt.Println("failed", err)
		return 1
	}
	opts := &server.Options{
		ServerName: p.Name, Host: "127.0.0.1", Port: p.Port, JetStream: true, StoreDir: p.Store,
		NoLog: true, NoSigs: true,
		LameDuckDuration: time.Second, LameDuckGracePeriod: 100 * time.Millisecond,
	}
	if p.ClusterPort != 0 {
		opts.Cluster = server.ClusterOpts{
			Name: "test", Host: "127.0.0.1", Port: p.ClusterPort, NoAdvertise: true,
			// it advertises no address, so that other nodes use their links
			Advertise: "127.0.0.1:1",
		}
		opts.Routes = server.RoutesFromStr(p.Routes)
	}
	return runServer(opts, func(srv *server.Server, told *bufio.Scanner) {
		if told.Scan() && told.Text() == "lameduck" {
			srv.LameDuckShutdown()
		}
	})
}

// runServer runs a nats-server in this process while serve runs. serve reads the commands that the
// process is sent.
func runServer(opts *server.Options, serve func(srv *server.Server, told *bufio.Scanner)) int {
	srv, err := server.NewServer(opts)
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	go srv.Start() // ends with the process
	if !srv.ReadyForConnections(20 * time.Second) {
		fmt.Println("failed: not ready")
		return 1
	}
	fmt.Println("ready")
	serve(srv, bufio.NewScanner(os.Stdin))
	srv.Shutdown()
	srv.WaitForShutdown()
	return 0
}

// fleet is a single server or a cluster, in processes of their own.
type fleet struct {
	t     testing.TB
	nodes []*node
}

// connect returns a connection of the test's own that uses no link.
func (f *fleet) connect() *nats.Conn {
	f.t.Helper()
	var urls []string
	for _, n := range f.nodes {
		urls = append(urls, "nats://"+n.address())
	}
	return natstest.Connect(f.t, strings.Join(urls, ","), nats.Timeout(time.Second),
		nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2))
}

// awaitJetStream waits until JetStream answers. In a cluster, its leader answers.
func (f *fleet) awaitJetStream() {
	f.t.Helper()
	nc := f.connect()
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		f.t.Fatal(err)
	}
	natstest.Eventually(f.t, 60*time.Second, func() error {
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
		defer cancel()
		if _, err := js.AccountInfo(ctx); err != nil || len(f.nodes) == 1 {
			return err
		}
		// a node that is up may not know the others yet
		if _, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "probe",
			Replicas: len(f.nodes)}); err != nil {
			return err
		}
		return js.DeleteStream(ctx, "probe")
	})
}

// awaitReplicas waits until every replica of a stream has all that its leader has.
func (f *fleet) awaitReplicas(stream string) {
	f.t.Helper()
	if len(f.nodes) == 1 {
		f.awaitJetStream()
		return
	}
	nc := f.connect()
	defer nc.Close()
	for range 5 { // a leader that was cut off may still take itself for one
		natstest.AwaitReplicas(f.t, nc, stream, len(f.nodes))
		time.Sleep(200 * time.Millisecond)
	}
}

// leader returns the node that leads a stream, or nil if none does.
func (f *fleet) leader(stream string) *node {
	nc := f.connect()
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil
	}
	for range 5 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		s, err := js.Stream(ctx, stream)
		cancel()
		if err != nil || s.CachedInfo().Cluster == nil {
			continue
		}
		for _, n := range f.nodes {
			if n.plan.Name == s.CachedInfo().Cluster.Leader {
				return n
			}
		}
	}
	return nil
}

// awaitLeader waits until a stream has a leader that answers.
func (f *fleet) awaitLeader(stream string) {
	nc := f.connect()
	defer nc.Close()
	for range 600 {
		if msg, err := nc.Request("$JS.API.STREAM.INFO."+stream, nil,
			50*time.Millisecond); err == nil && !strings.Contains(string(msg.Data), `"error"`) {
			return
		}
	}
}

// stepDown makes a stream's leader hand over to another node.
func (f *fleet) stepDown(stream string) error {
	nc := f.connect()
	defer nc.Close()
	msg, err := nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, 2*time.Second)
	if err == nil && strings.Contains(string(msg.Data), `"error"`) {
		err = errors.New(string(msg.Data))
	}
	return err
}

// newFleet starts one server, or three that are a cluster.
func newFleet(t testing.TB, size int) *fleet {
	t.Helper()
	f := &fleet{t: t}
	for i := range size {
		n := &node{t: t, plan: nodePlan{Name: fmt.Sprintf("n%d", i), Port: natstest.FreePort(t),
			Store: t.TempDir() + "/store"}}
		if size > 1 {
			n.plan.ClusterPort = natstest.FreePort(t)
		}
		f.nodes = append(f.nodes, n)
	}
	for _, from := range f.nodes {
		var routes []string
		for _, to := range f.nodes {
			if from != to {
				l := newLink(t, fmt.Sprintf("127.0.0.1:%d", to.plan.ClusterPort))
				from.links, to.links, routes = append(from.links, l), append(to.links, l),
					append(routes, l.URL())
			}
		}
		from.plan.Routes = strings.Join(routes, ",")
		from.start()
	}
	for _, n := range f.nodes {
		n.proc.await("ready", 30*time.Second)
	}
	for range 5 { // a node may take another for absent for a moment
		f.awaitJetStream()
		time.Sleep(200 * time.Millisecond)
	}
	return f
}
