package kvregistrytest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/embedded"
	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/kvregistry"
)

// patience bounds what takes milliseconds on a machine that is not busy.
const patience = 30 * time.Second

// Env is a NATS server for one test, and the registries that were opened on it. If something fails,
// its methods end the test by t.Fatal. Any number of goroutines may call them.
type Env struct {
	// Registry is the one that New opened, the program's own under test or a look at what the
	// others do.
	*kvregistry.Registry

	t    testing.TB
	opts server.Options
	nc   *nats.Conn // Registry's

	mu    sync.Mutex // guards what follows; held while the server stops or starts
	srv   *server.Server
	conns []*nats.Conn
	alive []*kvregistry.Registry // that were opened and not killed
}

// New starts a server with an empty store, and opens a registry on it. When the test ends, so do
// both, and every other registry and connection of the Env, and no goroutine stays. Nothing is
// deregistered then, because the server and its store go with the test.
//
// The options are those of this registry alone. Its [kvregistry.Logger] is the test's output unless
// an option says otherwise.
func New(t testing.TB, opts ...kvregistry.Option) *Env {
	t.Helper()
	port, err := embedded.FreePort()
	if err != nil {
		t.Fatalf("kvregistrytest: %v", err)
	}
	e := &Env{t: t, opts: embedded.Options(port, t.TempDir())}
	t.Cleanup(e.end) // before the folder goes
	e.StartServer()
	e.Registry, e.nc = e.open(opts)
	return e
}

// URL is the server's address, for a connection by [kvregistry.Dial] or nats.Connect.
func (e *Env) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", e.opts.Port) }

// Conn is the connection that New's registry uses. It comes back when the server does, and closes
// with the test.
func (e *Env) Conn() *nats.Conn { return e.nc }

// Open opens another registry on the same server, on a connection of its own, as another process
// would. New's options do not hold for it: for another tenant or TTL than the default, give them
// again.
//
// A server that is stopped is waited for, as by [kvregistry.New].
func (e *Env) Open(opts ...kvregistry.Option) *kvregistry.Registry {
	e.t.Helper()
	reg, _ := e.open(opts)
	return reg
}

func (e *Env) open(opts []kvregistry.Option) (*kvregistry.Registry, *nats.Conn) {
	e.t.Helper()
	nc, err := kvregistry.Dial(e.URL(), nats.ReconnectWait(10*time.Millisecond),
		nats.ReconnectJitter(5*time.Millisecond, 5*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // the default prints
	if err != nil {
		e.t.Fatalf("kvregistrytest: %v", err)
	}
	log := kvregistry.Logger(slog.New(slog.NewTextHandler(e.t.Output(), nil)))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	reg, err := kvregistry.New(ctx, nc, append([]kvregistry.Option{log}, opts...)...)
	if err != nil {
		nc.Close()
		e.t.Fatalf("kvregistrytest: %v", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conns, e.alive = append(e.conns, nc), append(e.alive, reg)
	return reg, nc
}

// StopServer stops the server, and returns when the Env's connections know. The store stays.
// Look-ups of what was read before answer from memory from now on, and nothing can be registered.
// It does nothing if the server is stopped.
func (e *Env) StopServer() {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.srv == nil {
		return
	}
	embedded.Stop(e.srv)
	e.srv = nil
	e.await("gone", func(nc *nats.Conn) bool { return !nc.IsConnected() })
}

// StartServer starts the server again, at the same URL and with the same store, and returns when
// the Env's connections are up. It does nothing if the server runs.
//
// Registrations are still there if the outage was shorter than their TTL. After a longer one they
// are written again under a new lease. A test that goes on when a certain thing is registered or
// seen has to wait for it, for example by [kvregistry.Registry.WaitFor].
func (e *Env) StartServer() {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.srv != nil {
		return
	}
	srv, err := embedded.Start(e.opts)
	if err != nil {
		e.t.Fatalf("kvregistrytest: nats-server does not start: %v", err)
	}
	e.srv = srv
	if !srv.ReadyForConnections(patience) {
		e.t.Fatalf("kvregistrytest: nats-server is not ready at %s after %s", e.URL(), patience)
	}
	e.await("back", (*nats.Conn).IsConnected)
}

// await waits until ok is true of each connection that is not closed. The caller holds e.mu.
func (e *Env) await(what string, ok func(*nats.Conn) bool) {
	e.t.Helper()
	late := time.Now().Add(patience)
	for _, nc := range e.conns {
		for !nc.IsClosed() && !ok(nc) {
			if time.Now().After(late) {
				e.t.Fatalf("kvregistrytest: a connection has not noticed after %s that the server "+
					"is %s", patience, what)
			}
			time.Sleep(time.Millisecond) // between two looks
		}
	}
}

// Kill makes the process that registered an instance crash: the registry of this Env that has
// registered an instance with this id, for whatever service, ends without deregistering anything.
// Everything that it registered goes with it, not this instance alone, so register what has to
// outlive it by another registry. Observers are told of it by [kvregistry.Expired] events.
//
// Observers see what they see of a crash, except that they see it at once, and not after a TTL. The
// registry's methods return [kvregistry.ErrClosed] from now on, its loops end, and none of its
// callbacks is called: no process is left that could call it. If that registry is Env.Registry,
// which is possible, the test needs another one to observe with. A name that the registry held
// exclusively goes to the next in line.
//
// Kill returns when the bucket has it; each observer gets it in its own time, and one that has not
// seen the instance before is told nothing. Kill ends the test if no registry that the Env opened
// has such an instance, or if the server is stopped.
func (e *Env) Kill(id string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, reg := range e.take(id) {
		if err := inside.Crash(ctx, reg); err != nil {
			e.t.Fatalf("kvregistrytest: kill %q: %v", id, err)
		}
	}
}

// take takes the registries that have registered an instance with an id out of those that live.
func (e *Env) take(id string) (owners []*kvregistry.Registry) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.srv == nil {
		e.t.Fatalf("kvregistrytest: kill %q: the server is stopped; call StartServer first", id)
	}
	var known []string
	e.alive = slices.DeleteFunc(e.alive, func(reg *kvregistry.Registry) bool {
		ids := idsOf(reg)
		known = append(known, ids...)
		owns := slices.Contains(ids, id)
		if owns {
			e.t.Logf("kvregistrytest: kill %q: the process that registered %q ends", id, ids)
			owners = append(owners, reg)
		}
		return owns
	})
	if len(owners) == 0 {
		e.t.Fatalf("kvregistrytest: kill %q: no registry that this Env opened has registered it; "+
			"the ids that they have registered are %q", id, known)
	}
	return owners
}

// idsOf returns the ids of what a registry has registered.
func idsOf(reg *kvregistry.Registry) (ids []string) {
	for _, s := range reg.RegisteredServices() {
		ids = append(ids, s.ID)
	}
	return ids
}

// end ends the registries, their connections and the server.
func (e *Env) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // nothing is asked of the server, which may be stopped
	var regs sync.WaitGroup
	for _, reg := range e.alive {
		regs.Go(func() { _ = reg.Leave(ctx) })
	}
	regs.Wait()
	for _, nc := range e.conns {
		nc.Close()
	}
	if e.srv != nil {
		embedded.Stop(e.srv)
	}
}
