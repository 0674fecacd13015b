package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// There is one default instance, even if many goroutines ask for it at once.
func TestConnectIsOneInstance(t *testing.T) {
	s := natstest.Start(t)
	if _, err := kvregistry.Connect(); !isErr(err, kvregistry.ErrNoInstance) {
		t.Fatalf("without an instance it gave %v", err)
	}
	if _, err := kvregistry.GetService("web"); !isErr(err, kvregistry.ErrNoInstance) &&
		!isErr(err, kvregistry.ErrClosed) {
		// ErrClosed if this is not the first run in the process
		t.Fatalf("without an instance it gave %v", err)
	}
	nc := s.Connect()
	var wg sync.WaitGroup
	regs := make([]*kvregistry.Registry, 32)
	for i := range regs {
		wg.Go(func() {
			r, err := kvregistry.Connect(kvregistry.Nats(nc), kvregistry.TTL(ttl), quiet())
			if err != nil {
				t.Error(err)
			}
			regs[i] = r
		})
	}
	wg.Wait()
	for _, r := range regs {
		if r != regs[0] {
			t.Fatal("there are two instances")
		}
	}
	_, err := kvregistry.Connect(kvregistry.Nats(s.Connect()))
	if !isErr(err, kvregistry.ErrInvalidOption) {
		t.Errorf("another connection gave %v", err)
	}
	_, err = kvregistry.Connect(kvregistry.Tenant("other"))
	if !isErr(err, kvregistry.ErrInvalidOption) {
		t.Errorf("another tenant gave %v", err)
	}
	if _, err := kvregistry.Register(web("a")); err != nil {
		t.Fatal(err)
	}
	if err := kvregistry.Observe("web"); err != nil {
		t.Fatal(err)
	}
	if one, err := kvregistry.GetService("web"); err != nil || one.ID != "a" {
		t.Fatal(one, err)
	}
	if list, err := kvregistry.GetServices(t.Context(), "web"); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if err := kvregistry.Unregister("web"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := kvregistry.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := kvregistry.GetService("web"); !isErr(err, kvregistry.ErrClosed) {
		t.Errorf("after Close it gave %v", err)
	}
	if _, err := kvregistry.Connect(); !isErr(err, kvregistry.ErrNoInstance) {
		t.Errorf("after Close it gave %v", err)
	}
	again, err := kvregistry.Connect(kvregistry.Nats(nc), quiet())
	if err != nil || again == regs[0] {
		t.Fatal("no new instance after Close", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

// Invalid input is refused with an error of its own, before anything is written.
func TestBadInputIsRefused(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	if _, err := kvregistry.New(t.Context(), nil); !isErr(err, kvregistry.ErrNilConnection) {
		t.Errorf("a nil connection gave %v", err)
	}
	_, err := kvregistry.Connect(kvregistry.Nats(nil))
	if !isErr(err, kvregistry.ErrNilConnection) {
		t.Errorf("Connect with a nil connection gave %v", err)
	}
	closed := s.Connect()
	closed.Close()
	if _, err := kvregistry.New(t.Context(), closed); !isErr(err, kvregistry.ErrConnectionClosed) {
		t.Errorf("a closed connection gave %v", err)
	}
	for name, opt := range map[string]kvregistry.Option{
		"TTL too short":       kvregistry.TTL(time.Second),
		"TTL too long":        kvregistry.TTL(25 * time.Hour),
		"TTL with a fraction": kvregistry.TTL(2500 * time.Millisecond),
		"Timeout":             kvregistry.Timeout(0), "Replicas": kvregistry.Replicas(2),
		"nil": nil, "Logger": kvregistry.Logger(nil), "OnEvent": kvregistry.OnEvent(nil),
	} {
		if _, err := kvregistry.New(t.Context(), s.Connect(),
			opt); !isErr(err, kvregistry.ErrInvalidOption) {
			t.Errorf("%s gave %v", name, err)
		}
	}
	nc := s.Connect()
	r := openOn(t, nc)
	for name, bad := range map[string]kvregistry.Service{
		"no name":      {URL: "http://h"},
		"neither":      {Name: "web"},
		"URL":          {Name: "web", URL: "http://[::1"},
		"relative URL": {Name: "web", URL: "/path"},
		"long id":      {Name: "web", ID: strings.Repeat("x", 256), Address: "h:1"},
		"status":       {Name: "web", Address: "h:1", Status: "odd"},
		"weight":       {Name: "web", Address: "h:1", Weight: -1},
		"metadata": {Name: "web", Address: "h:1",
			Metadata: map[string]string{"k": strings.Repeat("x", 70<<10)}},
		"metadata no UTF-8": {Name: "web", Address: "h:1",
			Metadata: map[string]string{"k": "\xff"}},
	} {
		un, err := r.Register(bad)
		if !isErr(err, kvregistry.ErrInvalidService) || un != nil {
			t.Errorf("%s gave %v", name, err)
		}
	}
	if left := keys(t, s.Connect(), "default", "svc."); len(left) > 0 {
		t.Errorf("invalid input was written: %v", left)
	}
	nc.Close()
	if _, err := r.Register(web("a")); !isErr(err, kvregistry.ErrConnectionClosed) {
		t.Errorf("a connection closed later gave %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Register(web("a")); !isErr(err, kvregistry.ErrClosed) {
		t.Errorf("a closed registry gave %v", err)
	}
	for name, err := range map[string]error{
		"Unregister": r.Unregister("web"), "Update": r.Update(web("a")),
		"SetStatus": r.SetStatus("web", kvregistry.Passing), "Observe": r.Observe("web"),
		"GetServices": second(r.GetServices(t.Context(), "web")),
		"GetService":  second(r.GetService("web")), "Snapshot": second(r.Snapshot("web")),
		"ServiceNames": second(r.ServiceNames()), "Watch": second(r.Watch(t.Context(), "web")),
	} {
		if !isErr(err, kvregistry.ErrClosed) {
			t.Errorf("%s of a closed registry gave %v", name, err)
		}
	}
}

// Register, Update, SetStatus, Unregister and Close may be called at once. The race detector checks
// the rest.
func TestManyCallersAtOnce(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r, observer := open(t, s), open(t, s)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for k := range 30 {
				id := fmt.Sprint(i % 4)
				un, err := r.Register(web(id))
				if err != nil && !isErr(err, kvregistry.ErrFenced) &&
					!isErr(err, kvregistry.ErrNotRegistered) {
					t.Error(err) // another caller may have caused these two errors
					return
				}
				switch _ = r.RegisteredServices(); k % 4 {
				case 0:
					_ = r.Update(kvregistry.Service{Name: "web", ID: id,
						Address: fmt.Sprint("h:1", k)})
				case 1:
					_ = r.SetStatus("web", kvregistry.Warning)
				case 2:
					_ = r.Unregister("web")
				default:
					if un != nil {
						_ = un()
					}
				}
			}
		})
	}
	wg.Wait()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	sees(t, observer, natstest.Soon, "web")
}

// The constructor reports each problem of the server with an error of its own and the remedy.
func TestConstructorSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	refused := func(t *testing.T, nc *nats.Conn, want error, remedy string,
		opts ...kvregistry.Option) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, natstest.Soon)
		defer cancel()
		_, err := kvregistry.New(ctx, nc, append(opts, quiet())...)
		if !isErr(err, want) || !strings.Contains(err.Error(), remedy) {
			t.Errorf("got %v, want %v and the word %q", err, want, remedy)
		}
	}
	t.Run("JetStream is off", func(t *testing.T) {
		s := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
		refused(t, s.Connect(), kvregistry.ErrJetStreamOff, "-js")
	})
	t.Run("no permission", func(t *testing.T) {
		s := natstest.Start(t, func(o *server.Options) {
			o.Users = []*server.User{{Username: "u", Password: "p",
				Permissions: &server.Permissions{
					Publish: &server.SubjectPermission{Deny: []string{"$JS.API.>"}},
				}}}
		})
		refused(t, s.Connect(nats.UserInfo("u", "p")), kvregistry.ErrPermission, "allow")
	})
	t.Run("storage full", func(t *testing.T) {
		s := natstest.Start(t, func(o *server.Options) { o.JetStreamMaxStore = 1 << 20 })
		refused(t, s.Connect(), kvregistry.ErrStorageFull, "limit", kvregistry.MaxBytes(1<<30))
	})
	t.Run("replicas without a cluster", func(t *testing.T) {
		s := natstest.Start(t)
		refused(t, s.Connect(), kvregistry.ErrInvalidOption, "Replicas", kvregistry.Replicas(3))
	})
	t.Run("another bucket of that name", func(t *testing.T) {
		s := natstest.Start(t)
		nc := s.Connect()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "registry_default",
			History: 5, Storage: jetstream.MemoryStorage}); err != nil {
			t.Fatal(err)
		}
		refused(t, nc, kvregistry.ErrBucketMismatch, "history is 5")
		refused(t, nc, kvregistry.ErrBucketMismatch, "storage is Memory")
		st, err := js.Stream(ctx, "KV_registry_default")
		if err != nil || st.CachedInfo().Config.MaxMsgsPerSubject != 5 {
			t.Errorf("the bucket was changed: %v", err)
		}
	})
}

// Many processes may be the first of a tenant at the same time.
func TestConcurrentFirstUse(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	var wg sync.WaitGroup
	for range 20 {
		nc := s.Connect()
		wg.Go(func() {
			r, err := kvregistry.New(t.Context(), nc, kvregistry.Tenant("fresh"), quiet())
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := registerSoon(t.Context(), r, kvregistry.Service{Name: "web",
				Address: "h:1"}); err != nil {
				t.Error(err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A connection of Dial needs no server at the start, and notices within 10 s that its peer is
// silently gone. The caller's options override those of Dial. Seen to fail with nats.Connect in
// place of Dial.
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
		t.Errorf("the options are name %q, reconnects %d", nc.Opts.Name, nc.Opts.MaxReconnect)
	}
	r := openOn(t, nc)
	l.heal()
	register(t, r, web("a"))
	sees(t, r, natstest.Soon, "web", "a")
	l.blackhole(up, down)
	if o := nc.Opts; o.PingInterval*time.Duration(o.MaxPingsOut+1) > 10*time.Second {
		t.Errorf("a dead peer is noticed after %d pings, one every %s", o.MaxPingsOut+1,
			o.PingInterval)
	}
	began := time.Now()
	select {
	case at := <-lost:
		t.Logf("noticed after %s", at.Sub(began).Round(time.Millisecond))
	case <-time.After(10*time.Second + natstest.Soon):
		t.Error("a dead peer is not noticed")
	}
	l.cut() // Close need not wait then
}
