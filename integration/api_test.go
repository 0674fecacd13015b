package integration

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// The default instance is one, also when many goroutines ask for it at once.
func TestConnectIsOneInstance(t *testing.T) {
	s := natstest.Start(t)
	if _, err := kvregistry.Connect(); !isErr(err, kvregistry.ErrNoInstance) {
		t.Fatalf("without an instance: %v", err)
	}
	if _, err := kvregistry.GetService("web"); !isErr(err, kvregistry.ErrNoInstance) && !isErr(err, kvregistry.ErrClosed) {
		t.Fatalf("without an instance: %v", err) // closed, where this is not the first run in the process
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
			t.Fatal("two instances")
		}
	}
	if _, err := kvregistry.Connect(kvregistry.Nats(s.Connect())); !isErr(err, kvregistry.ErrInvalidOption) {
		t.Errorf("another connection gave %v", err)
	}
	if _, err := kvregistry.Connect(kvregistry.Tenant("other")); !isErr(err, kvregistry.ErrInvalidOption) {
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
		t.Errorf("after Close: %v", err)
	}
	if _, err := kvregistry.Connect(); !isErr(err, kvregistry.ErrNoInstance) {
		t.Errorf("after Close: %v", err)
	}
	again, err := kvregistry.Connect(kvregistry.Nats(nc), quiet())
	if err != nil || again == regs[0] {
		t.Fatal("no new instance after Close", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

// What can't be registered is refused with an error of its own, before anything is written.
func TestBadInputIsRefused(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	if _, err := kvregistry.New(t.Context(), nil); !isErr(err, kvregistry.ErrNilConnection) {
		t.Errorf("a nil connection gave %v", err)
	}
	if _, err := kvregistry.Connect(kvregistry.Nats(nil)); !isErr(err, kvregistry.ErrNilConnection) {
		t.Errorf("Connect with a nil connection gave %v", err)
	}
	closed := s.Connect()
	closed.Close()
	if _, err := kvregistry.New(t.Context(), closed); !isErr(err, kvregistry.ErrConnectionClosed) {
		t.Errorf("a closed connection gave %v", err)
	}
	for name, opt := range map[string]kvregistry.Option{
		"TTL too short": kvregistry.TTL(time.Second), "TTL too long": kvregistry.TTL(25 * time.Hour), "TTL with a fraction": kvregistry.TTL(2500 * time.Millisecond),
		"Timeout": kvregistry.Timeout(0), "Replicas": kvregistry.Replicas(2), "nil": nil, "Logger": kvregistry.Logger(nil), "OnEvent": kvregistry.OnEvent(nil),
	} {
		if _, err := kvregistry.New(t.Context(), s.Connect(), opt); !isErr(err, kvregistry.ErrInvalidOption) {
			t.Errorf("%s gave %v", name, err)
		}
	}
	nc := s.Connect()
	r := openOn(t, nc)
	for name, bad := range map[string]kvregistry.Service{
		"no name":           {URL: "http://h"},
		"neither":           {Name: "web"},
		"URL":               {Name: "web", URL: "http://[::1"},
		"relative URL":      {Name: "web", URL: "/path"},
		"long id":           {Name: "web", ID: strings.Repeat("x", 256), Address: "h:1"},
		"status":            {Name: "web", Address: "h:1", Status: "odd"},
		"weight":            {Name: "web", Address: "h:1", Weight: -1},
		"metadata":          {Name: "web", Address: "h:1", Metadata: map[string]string{"k": strings.Repeat("x", 70<<10)}},
		"metadata no UTF-8": {Name: "web", Address: "h:1", Metadata: map[string]string{"k": "\xff"}},
	} {
		un, err := r.Register(bad)
		if !isErr(err, kvregistry.ErrInvalidService) || un != nil {
			t.Errorf("%s gave %v", name, err)
		}
	}
	if left := keys(t, s.Connect(), "default", "svc."); len(left) > 0 {
		t.Errorf("written all the same: %v", left)
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
		"Unregister": r.Unregister("web"), "Update": r.Update(web("a")), "SetStatus": r.SetStatus("web", kvregistry.Passing), "Observe": r.Observe("web"),
		"GetServices": second(r.GetServices(t.Context(), "web")), "GetService": second(r.GetService("web")), "Snapshot": second(r.Snapshot("web")),
		"ServiceNames": second(r.ServiceNames()), "Watch": second(r.Watch(t.Context(), "web")),
	} {
		if !isErr(err, kvregistry.ErrClosed) {
			t.Errorf("%s of a closed registry gave %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A registered instance is what was registered; its list, status and content change in one write each.
func TestRegisterUpdateAndStatus(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, observer := open(t, s), open(t, s)
	want := kvregistry.Service{
		ID: "a", Name: "web", Version: "1.2.3", Network: "tcp", Address: "10.0.0.1:80", URL: "https://10.0.0.1/x", Host: "h1", Zone: "z1",
		Tags: []string{"t1", "t2"}, Metadata: map[string]string{"k": "v"}, Weight: 3, Status: kvregistry.Warning,
	}
	register(t, owner, want)
	got, err := observer.GetService("web")
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(kvregistry.Service{}, "Revision")); diff != "" || err != nil {
		t.Fatalf("%v\n%s", err, diff)
	}
	want.Address, want.Tags = "10.0.0.2:80", nil
	if err := owner.Update(kvregistry.Service{Name: "web", Address: "10.0.0.2:80"}); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error { return wantAddress(observer, "10.0.0.2:80") })
	if got, _ := observer.GetService("web"); got.Version != "" || got.ID != "a" {
		t.Errorf("Update is to replace what the instance says: %+v", got)
	}
	for _, status := range []kvregistry.Status{kvregistry.Critical, kvregistry.Draining} {
		if err := owner.SetStatus("web", status); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			return second(observer.GetService("web", kvregistry.WithStatus(status)))
		})
		if _, err := observer.GetService("web"); !isErr(err, kvregistry.ErrNotFound) {
			t.Errorf("an instance that is %s is handed out: %v", status, err)
		}
	}
	if err := owner.Update(kvregistry.Service{Name: "other", Address: "h:1"}); !isErr(err, kvregistry.ErrNotRegistered) {
		t.Errorf("updating what is not there gave %v", err)
	}
	if err := owner.Unregister("other"); !isErr(err, kvregistry.ErrNotRegistered) {
		t.Errorf("unregistering what is not there gave %v", err)
	}
	register(t, owner, web("b"))
	if err := owner.Update(kvregistry.Service{Name: "web", Address: "h:1"}); !isErr(err, kvregistry.ErrInvalidService) {
		t.Errorf("an update that does not say of which gave %v", err)
	}
	if err := owner.Unregister("web"); err != nil {
		t.Fatal(err)
	}
	sees(t, observer, natstest.Soon, "web")
}

// A registry sees its own writes: what it registered, changed or took back, its next look-up shows.
func TestOwnWritesAreSeen(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s, patient())
	sees(t, r, natstest.Soon, "web")
	for i := range 200 {
		un := register(t, r, web("a"))
		if _, err := r.GetService("web"); err != nil {
			t.Fatalf("round %d, after Register: %v", i, err)
		}
		if err := r.Update(kvregistry.Service{Name: "web", Address: fmt.Sprint("h:1", i)}); err != nil {
			t.Fatal(err)
		}
		if err := wantAddress(r, fmt.Sprint("h:1", i)); err != nil {
			t.Fatalf("round %d, after Update: %v", i, err)
		}
		if err := un(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.GetService("web"); !isErr(err, kvregistry.ErrNotFound) {
			t.Fatalf("round %d, after unregister: %v", i, err)
		}
	}
}

// The first look-up of a service that this process registered itself shows the others' instances as well as its own.
func TestFirstLookupOfAnOwnService(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	a, b := open(t, s), open(t, s)
	register(t, a, web("a"))
	register(t, b, web("b"))
	for _, r := range []*kvregistry.Registry{a, b} {
		if got := ids(t, r, "web"); !cmp.Equal(got, []string{"a", "b"}) {
			t.Errorf("first look-up gave %v", got)
		}
	}
}

// Filters narrow a look-up, and several hold together.
func TestFilters(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	for _, one := range []kvregistry.Service{
		{ID: "a", Version: "1", Zone: "z1", Host: "h1", Tags: []string{"x", "y"}, Metadata: map[string]string{"k": "1"}},
		{ID: "b", Version: "2", Zone: "z1", Host: "h2", Tags: []string{"x"}, Metadata: map[string]string{"k": "2"}},
		{ID: "c", Version: "2", Zone: "z2", Tags: []string{"y"}, Status: kvregistry.Warning},
		{ID: "d", Version: "2", Zone: "z2", Status: kvregistry.Critical},
	} {
		one.Name, one.Address = "web", "h:1"
		register(t, r, one)
	}
	for _, c := range []struct {
		name    string
		filters []kvregistry.Filter
		want    string
	}{
		{"none: the passing ones", nil, "ab"},
		{"status", []kvregistry.Filter{kvregistry.WithStatus(kvregistry.Warning, kvregistry.Critical)}, "cd"},
		{"version", []kvregistry.Filter{kvregistry.WithVersion("2")}, "b"},
		{"version and status", []kvregistry.Filter{kvregistry.WithVersion("2"), kvregistry.WithStatus(kvregistry.Critical)}, "d"},
		{"tag", []kvregistry.Filter{kvregistry.WithTag("x")}, "ab"},
		{"tags", []kvregistry.Filter{kvregistry.WithTag("x", "y")}, "a"},
		{"metadata", []kvregistry.Filter{kvregistry.WithMetadata("k", "2")}, "b"},
		{"zone", []kvregistry.Filter{kvregistry.InZone("z1")}, "ab"},
		{"host", []kvregistry.Filter{kvregistry.OnHost("h2")}, "b"},
		{"own host", []kvregistry.Filter{kvregistry.OnOwnHost(), kvregistry.WithStatus(kvregistry.Warning, kvregistry.Critical)}, "cd"},
		{"any function", []kvregistry.Filter{kvregistry.Where(func(s kvregistry.Service) bool { return s.ID > "a" })}, "b"},
		{"nothing", []kvregistry.Filter{kvregistry.InZone("z3")}, ""},
	} {
		list, err := r.GetServices(t.Context(), "web", c.filters...)
		got := ""
		for _, one := range list {
			got += one.ID
		}
		if got != c.want || (err != nil) != (c.want == "") || err != nil && !isErr(err, kvregistry.ErrNotFound) {
			t.Errorf("%s: got %q, %v, want %q", c.name, got, err, c.want)
		}
		seen := map[string]bool{}
		for range 50 * len(c.want) { // chosen at random
			one, err := r.GetService("web", c.filters...)
			if err != nil || !strings.Contains(c.want, one.ID) {
				t.Errorf("%s: GetService gave %q, %v", c.name, one.ID, err)
			}
			seen[one.ID] = true
		}
		if len(seen) != len(c.want) {
			t.Errorf("%s: GetService gave only %v", c.name, seen)
		}
	}
}

// GetService spreads evenly, also when many goroutines call it at once. Seen to fail with a turn that is not atomic.
func TestGetServiceSpreadsEvenly(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	const instances, callers, calls = 7, 64, 7000
	for i := range instances {
		register(t, r, web(fmt.Sprint(i)))
	}
	sees(t, r, natstest.Soon, "web", "0", "1", "2", "3", "4", "5", "6")
	var mu sync.Mutex
	counts := map[string]int{}
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			mine := map[string]int{}
			for range calls {
				one, err := r.GetService("web")
				if err != nil {
					t.Error(err)
					return
				}
				mine[one.ID]++
			}
			mu.Lock()
			defer mu.Unlock()
			for id, n := range mine {
				counts[id] += n
			}
		})
	}
	wg.Wait()
	for id, n := range counts {
		if math.Abs(float64(n-callers*calls/instances)) > 1 {
			t.Errorf("instance %s got %d of %d calls", id, n, callers*calls)
		}
	}
}

// Everything is observed with "*"; names are those that have an instance.
func TestObserveEverything(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, observer := open(t, s), open(t, s)
	register(t, owner, web("a"))
	if err := observer.ObserveContext(t.Context(), kvregistry.Everything); err != nil {
		t.Fatal(err)
	}
	un := register(t, owner, kvregistry.Service{ID: "1", Name: "late", Address: "h:1"})
	sees(t, observer, natstest.Soon, "late", "1")
	for _, r := range []*kvregistry.Registry{owner, observer} {
		if names, err := r.ServiceNames(); err != nil || !cmp.Equal(names, []string{"late", "web"}) {
			t.Errorf("names are %v, %v", names, err)
		}
	}
	if got := observer.ObservedServices(); !cmp.Equal(got, []string{"*"}) {
		t.Errorf("observes %v", got)
	}
	if err := un(); err != nil {
		t.Fatal(err)
	}
	sees(t, observer, natstest.Soon, "late")
	if names, err := observer.ServiceNames(); err != nil || !cmp.Equal(names, []string{"web"}) {
		t.Errorf("names are %v, %v", names, err)
	}
	register(t, owner, kvregistry.Service{ID: "2", Name: "late", Address: "h:1"})
	sees(t, observer, natstest.Soon, "late", "2")
}

// While the server is away, or not started yet, Register waits as long as its context lets it; what was declared is
// written as soon as it can be. Seen to fail with a reconcile that returns at once.
func TestRegisterBeforeTheServer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	s.Down()
	nc, err := nats.Connect(s.URL(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	r := openOn(t, nc, kvregistry.Timeout(200*time.Millisecond))
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	un, err := r.RegisterContext(short, web("declared"))
	if !isErr(err, kvregistry.ErrPending) || !isErr(err, context.DeadlineExceeded) || un == nil {
		t.Fatalf("without a server: %v", err)
	}
	for range 2 { // to ask again is to wait again, not to register a second one
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := r.RegisterContext(short, kvregistry.Service{Name: "unnamed", Address: "h:1"}); !isErr(err, kvregistry.ErrPending) {
			t.Fatal(err)
		}
	}
	taken, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	back, err := r.RegisterContext(taken, web("taken back"))
	if !isErr(err, kvregistry.ErrPending) {
		t.Fatal(err)
	}
	if err := back(); err != nil {
		t.Fatalf("taking back what was never sent: %v", err)
	}
	waited := make(chan error, 1)
	go func() { // ends when the server is there
		long, cancel := context.WithTimeout(context.Background(), natstest.Soon)
		defer cancel()
		_, err := r.RegisterContext(long, web("waits"))
		waited <- err
	}()
	if _, err := r.GetService("web"); !isErr(err, kvregistry.ErrUnavailable) {
		t.Fatalf("a look-up without a server gave %v", err)
	}
	s.Up()
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	observer := open(t, s)
	sees(t, observer, natstest.Soon, "web", "declared", "waits")
	// Written in the background, it is still the one that Register was asked for; a further one is another.
	for want := 1; want <= 2; want++ {
		register(t, r, kvregistry.Service{Name: "unnamed", Address: "h:1"})
		natstest.Eventually(t, natstest.Soon, func() error {
			if got := ids(t, observer, "unnamed"); len(got) != want {
				return fmt.Errorf("registered %d times, want %d", len(got), want)
			}
			return nil
		})
	}
	s.Down()
	if err := errors.Join(unregisterWithin(r, "web", 200*time.Millisecond)); !isErr(err, kvregistry.ErrPending) {
		t.Fatalf("unregistering without a server gave %v", err)
	}
	s.Up()
	sees(t, observer, natstest.Soon, "web")
}

func unregisterWithin(r *kvregistry.Registry, name string, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return r.UnregisterContext(ctx, name)
}

// What was taken back while the server was away is deleted by Close, if not before.
func TestCloseFinishesWhatIsPending(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	observer := open(t, s)
	nc := s.Connect()
	r := openOn(t, nc)
	register(t, r, web("a"))
	sees(t, observer, natstest.Soon, "web", "a")
	s.Down()
	if err := unregisterWithin(r, "web", 100*time.Millisecond); !isErr(err, kvregistry.ErrPending) {
		t.Fatal(err)
	}
	s.Up()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	plain := s.Connect()
	if left := keys(t, plain, "default", "svc."); len(left) > 0 {
		t.Errorf("Close left %v", left)
	}
}

// Registering, changing, taking back and closing may happen at once; the race detector watches.
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
				if err != nil && !isErr(err, kvregistry.ErrFenced) && !isErr(err, kvregistry.ErrNotRegistered) {
					t.Error(err) // those two are what another caller did to it
					return
				}
				switch _ = r.RegisteredServices(); k % 4 {
				case 0:
					_ = r.Update(kvregistry.Service{Name: "web", ID: id, Address: fmt.Sprint("h:1", k)})
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
