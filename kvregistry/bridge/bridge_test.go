package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/bridge"
	"github.com/kvregistry/go/tenant/operator"
)

const (
	ttl = 3 * time.Second
	// They are forgotten half of it late; plain processes say again what they have.
	every = 2 * time.Second
)

// join starts a bridge until the test ends, on a connection of its own.
func join(t testing.TB, s *natstest.Server, opts ...bridge.Option) (*bridge.Bridge, *nats.Conn) {
	t.Helper()
	nc := s.Connect()
	b, err := bridge.New(t.Context(), nc,
		append([]bridge.Option{bridge.TTL(ttl), bridge.Interval(every)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b, nc
}

// leads waits until a bridge leads.
func leads(t testing.TB, b *bridge.Bridge) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := b.Health(); !h.Leads {
			return fmt.Errorf("it does not lead: %+v", h)
		}
		return nil
	})
}

// registry makes a process of the tenant, on a connection of its own.
func registry(t testing.TB, s *natstest.Server, opts ...kvregistry.Option) (*kvregistry.Registry,
	*nats.Conn) {
	t.Helper()
	nc := s.Connect()
	r, err := kvregistry.New(t.Context(), nc, append([]kvregistry.Option{kvregistry.TTL(ttl)},
		opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 2*natstest.Soon)
	defer cancel()
	// A first look-up takes long on a slow machine.
	if err := r.ObserveContext(ctx, kvregistry.Everything); err != nil {
		t.Fatal(err)
	}
	return r, nc
}

// sides are a bridge that leads, a process of the tenant, and a plain one that observes a service.
func sides(t testing.TB, observed string) (*natstest.Server, *bridge.Bridge,
	*kvregistry.Registry, *plainProcess) {
	t.Helper()
	s := natstest.Start(t)
	b, _ := join(t, s)
	leads(t, b)
	here, _ := registry(t, s)
	there := startPlain(t, s.Connect(), "registry", every)
	there.observe(observed)
	return s, b, here, there
}

func register(t testing.TB, r *kvregistry.Registry, s kvregistry.Service) func() error {
	t.Helper()
	end, err := r.Register(s)
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// addresses returns the addresses of the instances that a registry's look-ups give, in order.
func addresses(t testing.TB, r *kvregistry.Registry, name string) (list []string) {
	t.Helper()
	services, err := r.GetServices(t.Context(), name)
	if err != nil && !errors.Is(err, kvregistry.ErrNotFound) {
		t.Fatal(err)
	}
	for _, s := range services {
		list = append(list, s.Address)
	}
	slices.Sort(list)
	return list
}

// sees waits until the addresses seen are those wanted.
func sees(t testing.TB, within time.Duration, who string, see func() []string, want ...string) {
	t.Helper()
	natstest.Eventually(t, within, func() error {
		if got := see(); !slices.Equal(got, want) {
			return fmt.Errorf("%s sees %q, want %q", who, got, want)
		}
		return nil
	})
}

// both waits until both sides see a service at these addresses.
func both(t testing.TB, within time.Duration, r *kvregistry.Registry, p *plainProcess,
	name string, want ...string) {
	t.Helper()
	sees(t, within, "the tenant", func() []string { return addresses(t, r, name) }, want...)
	sees(t, within, "the plain process", func() []string { return p.addresses(name) }, want...)
}

// What either side registers is seen with all its fields on the other, follows its changes, and
// ends. Seen to fail with a service that leaves out Host, with said that leaves out KV, with newest
// that gives critical ones, and with hearEnd that does nothing.
func TestBothSides(t *testing.T) {
	t.Parallel()
	s, _, here, there := sides(t, "new.web")
	old := startPlain(t, s.Connect(), "registry", time.Minute) // which does not fall silent

	old.register(plainService{Network: "tcp", Address: "10.0.0.1:80", URL: "http://10.0.0.1/api",
		Name: "old.web", Version: "1.2", Host: "a", KV: map[string]string{"k": "v"}}, "warning")
	sees(t, natstest.Soon, "the tenant", func() []string {
		return addresses(t, here, "old.web")
	}, "10.0.0.1:80")
	got, err := here.GetService("old.web")
	want := kvregistry.Service{
		ID: got.ID, Name: "old.web", Version: "1.2", Network: "tcp", Address: "10.0.0.1:80",
		URL: "http://10.0.0.1/api", Host: "a",
		Metadata: map[string]string{"k": "v", bridge.Origin: "registry"},
		Status:   kvregistry.Warning, Revision: got.Revision, Owner: got.Owner, Lease: got.Lease,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("the tenant sees (-want +got), %v:\n%s", err, diff)
	}
	old.register(plainService{Address: "10.0.0.1:80", Name: "old.web", Version: "1.3"})
	natstest.Eventually(t, natstest.Soon, func() error {
		if got, err := here.GetService("old.web"); err != nil || got.Version != "1.3" ||
			got.Status != kvregistry.Passing {
			return fmt.Errorf("%+v, %v: the change is not seen", got, err)
		}
		return nil
	})
	old.unregister(plainService{Address: "10.0.0.1:80", Name: "old.web"})
	sees(t, natstest.Soon, "the tenant", func() []string { return addresses(t, here, "old.web") })

	end := register(t, here, kvregistry.Service{
		ID: "1", Name: "new.web", Version: "2", Network: "tcp", URL: "https://new.example/api",
		Host: "b", Metadata: map[string]string{"x": "y"},
	})
	sees(t, natstest.Soon, "the plain process", func() []string {
		return there.addresses("new.web")
	}, "new.example:443")
	if diff := cmp.Diff([]plainService{{
		Network: "tcp", Address: "new.example:443", URL: "https://new.example/api", Name: "new.web",
		Version: "2", Host: "b", KV: map[string]string{"x": "y"},
	}}, there.services("new.web")); diff != "" {
		t.Errorf("the plain process sees (-want +got):\n%s", diff)
	}
	// Plain callers ask for no status.
	for _, status := range []kvregistry.Status{kvregistry.Critical, kvregistry.Draining} {
		if err := here.SetStatus("new.web", status); err != nil {
			t.Fatal(err)
		}
		sees(t, natstest.Soon, "the plain process", func() []string {
			return there.addresses("new.web")
		})
		if err := here.SetStatus("new.web", kvregistry.Passing); err != nil {
			t.Fatal(err)
		}
		sees(t, natstest.Soon, "the plain process", func() []string {
			return there.addresses("new.web")
		}, "new.example:443")
	}
	before := len(there.told())
	if err := end(); err != nil {
		t.Fatal(err)
	}
	// It would forget it by itself, without a message.
	natstest.Eventually(t, natstest.Soon, func() error {
		if told := there.told()[before:]; !slices.Contains(told, "unregister new.web "+
			"new.example:443") {
			return fmt.Errorf("the plain process was told %q", told)
		}
		return nil
	})
}

// A plain process that has just begun and asks is answered within the 100 ms that it waits: by the
// bridge that leads, or by one that stands by if there is no bridge that leads. Seen to fail
// without hearPing, and with one that leaves the answer to the bridge that leads.
func TestFirstLookUp(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	here, _ := registry(t, s)
	for i := range 20 {
		register(t, here, kvregistry.Service{Name: fmt.Sprint("web", i), Address: "10.0.0.1:80"})
	}
	begin := func(i int) error {
		for range 10 { // a slow machine may use up the 100 ms
			p := startPlain(t, s.Connect(), "registry", every)
			p.observe(fmt.Sprint("web", i))
			if len(p.services(fmt.Sprint("web", i))) == 1 {
				return nil
			}
		}
		return fmt.Errorf("web%d is not found by a first look-up", i)
	}
	// It says nothing unasked, and listens for 2.5 s.
	b, _ := join(t, s, bridge.Interval(time.Hour), bridge.TTL(8*time.Second))
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := b.Health(); h.Told != 20 {
			return fmt.Errorf("%+v: it does not know what there is", h)
		}
		return nil
	})
	for i := range 10 {
		if err := begin(i); err != nil && !b.Health().Leads {
			t.Error("standing by:", err)
		}
	}
	if b.Health().Leads {
		t.Log("this machine is too slow to see a bridge that stands by")
	}
	leads(t, b)
	time.Sleep(6 * time.Second) // what is said repeatedly after it begins to lead is over
	for i := range 10 {
		if err := begin(10 + i); err != nil {
			t.Error("leading:", err)
		}
	}
}

// watchdog checks all the time whether some instances are seen exactly once, on both sides.
type watchdog struct {
	mu   sync.Mutex // guards what follows
	want map[string]bool
	end  chan struct{}
	wg   sync.WaitGroup
}

// guard starts to check, until stop. The addresses are those of instances that do not move at the
// time.
func guard(t *testing.T, r *kvregistry.Registry, p *plainProcess, name string) *watchdog {
	w := &watchdog{want: map[string]bool{}, end: make(chan struct{})}
	look := func(who string, got []string) {
		for address := range w.want {
			n := len(slices.DeleteFunc(slices.Clone(got), func(a string) bool {
				return a != address
			}))
			if n != 1 {
				t.Errorf("%s sees %s %d times: %q", who, address, n, got)
				delete(w.want, address)
			}
		}
	}
	w.wg.Go(func() {
		for {
			select {
			case <-w.end:
				return
			case <-time.After(time.Millisecond):
			}
			w.mu.Lock()
			look("the tenant", addresses(t, r, name))
			look("the plain process", p.addresses(name))
			w.mu.Unlock()
		}
	})
	t.Cleanup(w.stop)
	return w
}

func (w *watchdog) moves(address string, moving bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if moving {
		delete(w.want, address)
	} else {
		w.want[address] = true
	}
}

func (w *watchdog) stop() {
	w.mu.Lock()
	select {
	case <-w.end:
	default:
		close(w.end)
	}
	w.mu.Unlock()
	w.wg.Wait()
}

// A fleet moves one process at a time and back, by graceful stops and by crashes, each process to
// its own address again. At each step both sides see every instance once. Instances that do not
// move are seen all the time. Seen to fail with change that ignores Expired.
func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		t.Run(map[bool]string{false: "stops", true: "crashes"}[crash], func(t *testing.T) {
			s, _, here, there := sides(t, "web")

			var all []string
			var plain [4]*plainProcess
			var moved [4]*kvregistry.Registry
			var conns [4]*nats.Conn
			startThere := func(i int) {
				plain[i] = startPlain(t, s.Connect(), "registry", every)
				plain[i].register(plainService{Name: "web", Address: all[i]})
			}
			for i := range plain {
				all = append(all, fmt.Sprintf("10.0.0.%d:80", i))
				startThere(i)
			}
			both(t, natstest.Soon, here, there, "web", all...)
			dog := guard(t, here, there, "web")
			for _, address := range all {
				dog.moves(address, false)
			}
			carried := func(want int) { // waits until so many are from the plain side
				t.Helper()
				sees(t, natstest.Soon, "the tenant", func() []string {
					list, _ := here.GetServices(t.Context(), "web",
						kvregistry.WithMetadata(bridge.Origin, "registry"))
					return []string{fmt.Sprint(len(list))}
				}, fmt.Sprint(want))
				both(t, natstest.Soon, here, there, "web", all...)
			}
			for i := range plain {
				dog.moves(all[i], true)
				if crash {
					plain[i].crash()
				} else {
					plain[i].stop()
				}
				moved[i], conns[i] = registry(t, s)
				register(t, moved[i], kvregistry.Service{Name: "web", Address: all[i]})
				carried(3 - i)
				dog.moves(all[i], false)
			}
			for i := range plain { // and back
				dog.moves(all[i], true)
				if crash {
					conns[i].Close()
				} else if err := moved[i].Close(); err != nil {
					t.Error(err)
				}
				startThere(i)
				carried(i + 1)
				dog.moves(all[i], false)
			}
		})
	}
}

// An instance that both sides have at one address is one: the tenant's, for as long as it is there.
// Seen to fail with settle that registers what is told, with hearEnd that does not say again what
// is there, with sayEnd that tells the end of an instance that a plain process has, and without
// supersede.
func TestSameAddressOnBothSides(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	// What is seen soon is not due to the next interval.
	b, _ := join(t, s, bridge.Interval(time.Minute))
	leads(t, b)
	here, _ := registry(t, s)
	there := startPlain(t, s.Connect(), "registry", every)
	there.observe("web")
	one := plainService{Name: "web", Address: "10.0.0.1:80"}
	carried := func() []string { // how many are from the plain side
		list, _ := here.GetServices(t.Context(), "web",
			kvregistry.WithMetadata(bridge.Origin, "registry"))
		return []string{fmt.Sprint(len(list))}
	}
	old := startPlain(t, s.Connect(), "registry", time.Minute)
	old.register(one)
	both(t, natstest.Soon, here, there, "web", one.Address)
	end := register(t, here, kvregistry.Service{Name: one.Name, Address: one.Address})
	sees(t, natstest.Soon, "the tenant", carried, "0")
	for range 5 {
		old.register(one)
		time.Sleep(ttl / 8) // until the tenant's is no longer said again soon
	}
	both(t, 0, here, there, "web", one.Address)

	old.unregister(one) // plain processes forget an instance that is still there
	natstest.Eventually(t, natstest.Soon, func() error {
		if told := there.told(); !slices.Contains(told, "unregister web "+one.Address) {
			return fmt.Errorf("the plain process was told %q", told)
		}
		return nil
	})
	both(t, natstest.Soon, here, there, "web", one.Address)

	old.register(one)
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := b.Health(); h.Heard != 1 {
			return fmt.Errorf("%+v: it is not heard again", h)
		}
		return nil
	})
	before := len(there.told())
	if err := end(); err != nil {
		t.Fatal(err)
	}
	sees(t, natstest.Soon, "the tenant", carried, "1")
	both(t, 0, here, there, "web", one.Address)
	if told := there.told()[before:]; len(told) > 0 {
		t.Errorf("the plain process was told %q of an instance that was there all the time", told)
	}

	old.crash() // it starts again after it has moved
	end = register(t, here, kvregistry.Service{Name: one.Name, Address: one.Address})
	sees(t, natstest.Soon, "the tenant", carried, "0")
	if err := end(); err != nil {
		t.Fatal(err)
	}
	both(t, natstest.Soon, here, there, "web")
	time.Sleep(100 * time.Millisecond)
	both(t, 0, here, there, "web")
}

// Instances at an address that each host has are told apart by their hosts, on both sides, for a
// process that looks at its own host only. A process that does not sees one of them, while there is
// one. Seen to fail with places that have no host, so that the two were one that changed at each
// message, and with sayEnd that does not say the others again.
func TestSameAddressOnEachHost(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	// What is seen soon is not due to the next interval.
	b, _ := join(t, s, bridge.Interval(time.Minute))
	leads(t, b)
	here, nc := registry(t, s)
	const address = "127.0.0.1:10000"
	plain := map[string]*plainProcess{}
	for _, host := range []string{"a", "b"} {
		plain[host] = startPlain(t, s.Connect(), "registry", every)
		plain[host].register(plainService{Name: "web", Address: address, Host: host})
	}
	there, onB := startPlain(t, s.Connect(), "registry", every), startPlain(t,
		s.Connect(), "registry", every)
	onB.host = "b"
	there.observe("web")
	onB.observe("web")
	hosts := func() (list []string) {
		services, _ := here.GetServices(t.Context(), "web")
		for _, one := range services {
			list = append(list, one.Host+one.Metadata[bridge.Origin])
		}
		slices.Sort(list)
		return list
	}
	sees(t, natstest.Soon, "the tenant", hosts, "aregistry", "bregistry")
	_, before := keys(t, nc)
	time.Sleep(3 * every)
	if _, after := keys(t, nc); after != before {
		t.Errorf("registrations were written while nothing changed: sequence %d, and "+
			"then %d", before, after)
	}
	ends := map[string]func() error{}
	// They move; the last is not the one that the process on b looks for.
	for _, host := range []string{"b", "a"} {
		plain[host].stop()
		ends[host] = register(t, here, kvregistry.Service{Name: "web",
			Address: address, Host: host})
	}
	sees(t, natstest.Soon, "the tenant", hosts, "a", "b")
	time.Sleep(2 * every) // what was heard of the plain ones is forgotten
	for _, end := range []string{"a", "b"} {
		sees(t, natstest.Soon, "the plain process on b", func() []string {
			return onB.addresses("web")
		}, address)
		sees(t, natstest.Soon, "the other", func() []string {
			return there.addresses("web")
		}, address)
		before := len(there.told())
		if err := ends[end](); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			if told := there.told()[before:]; !slices.Contains(told, "unregister web "+address) {
				return fmt.Errorf("the plain process was told %q", told)
			}
			return nil
		})
	}
	sees(t, natstest.Soon, "the other", func() []string { return there.addresses("web") })
}

// Each log line names the tenant and the prefix, and its cause if it has one. Seen to fail with a
// logger that is taken as it is.
func TestLogLinesNameTheBridge(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	log := &natstest.Log{}
	b, nc := join(t, s, bridge.Tenant("acme"), bridge.Prefix("one"), bridge.MaxInstances(1),
		bridge.Logger(slog.New(slog.NewJSONHandler(log, nil))))
	leads(t, b)
	for _, data := range []string{"no JSON", `{"name":"web","add":"10.0.0.1:80"}`,
		`{"name":"web","add":"10.0.0.2:80"}`} {
		if err := nc.Publish("one.register.web", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	for _, msg := range []string{"bridge: leads", "bridge: skipped", "bridge: plain processes " +
		"register more than MaxInstances allows"} {
		natstest.Eventually(t, natstest.Soon, func() error {
			if len(log.With(`"msg":"`+msg+`"`)) == 0 {
				return fmt.Errorf("no line says %q", msg)
			}
			return nil
		})
		for _, line := range log.With(`"msg":"` + msg + `"`) {
			if !strings.Contains(line, `"tenant":"acme","prefix":"one"`) {
				t.Errorf("it does not say whose it is: %s", line)
			}
		}
	}
}

// The instances of a fleet that says only URLs, as the plain registry's own example does, are told
// apart here, and there after they have moved. Seen to fail with said that gives no address, and
// with supersede that does not end what plain processes take for another one.
func TestURLsOnly(t *testing.T) {
	t.Parallel()
	s, _, here, there := sides(t, "httptest")
	urls := func() (list []string) {
		services, _ := here.GetServices(t.Context(), "httptest")
		for _, one := range services {
			list = append(list, one.URL)
		}
		slices.Sort(list)
		return list
	}
	all := []string{"http://a:8083/test", "http://b:8083/test"}
	var plain []*plainProcess
	for _, link := range all {
		// It is not forgotten by itself.
		plain = append(plain, startPlain(t, s.Connect(), "registry", time.Minute))
		plain[len(plain)-1].register(plainService{Name: "httptest", URL: link})
	}
	sees(t, natstest.Soon, "the tenant", urls, all...)
	for i, link := range all {
		plain[i].crash()
		register(t, here, kvregistry.Service{Name: "httptest", URL: link})
		sees(t, natstest.Soon, "the tenant", urls, all...)
		// The one that is still there answers for the one that was ended.
		want := []string{"", "a:8083"}
		if i == 1 {
			want = []string{"a:8083", "b:8083"}
		}
		sees(t, natstest.Soon, "the plain process", func() []string {
			if !slices.Contains(there.told(), "unregister httptest ") {
				return nil
			}
			return there.addresses("httptest")
		}, want...)
	}
}

// What dies is forgotten on the other side: a plain process's instance when it was not heard for
// its time, an instance of the tenant with its lease. Seen to fail without bury, and with change
// that ignores Expired.
func TestCrashOnEitherSide(t *testing.T) {
	t.Parallel()
	s, _, here, there := sides(t, "*")
	dies := startPlain(t, s.Connect(), "registry", every)
	dies.register(plainService{Name: "old", Address: "10.0.0.1:80"})
	other, nc := registry(t, s)
	register(t, other, kvregistry.Service{Name: "new", Address: "10.0.0.2:80"})
	both(t, natstest.Soon, here, there, "old", "10.0.0.1:80")
	both(t, natstest.Soon, here, there, "new", "10.0.0.2:80")
	dies.crash()
	nc.Close()
	sees(t, natstest.Soon, "the tenant", func() []string { return addresses(t, here, "old") })
	sees(t, natstest.Soon, "the plain process", func() []string { return there.addresses("new") })
}

// Neither side notices if a bridge is restarted, dies and is started again, or hands over to one
// that stands by, and an observer is told nothing twice. Seen to fail with Close that closes the
// registry, with patience of a TTL, without takeOver, and with change that does not ask for what an
// earlier bridge has heard.
func TestBridgeGoes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		standBy bool
		end     func(*bridge.Bridge, *nats.Conn)
	}{
		{"restart", false, func(b *bridge.Bridge, _ *nats.Conn) { _ = b.Close() }},
		{"crash", false, func(_ *bridge.Bridge, nc *nats.Conn) { nc.Close() }},
		{"hand-over", true, func(b *bridge.Bridge, _ *nats.Conn) { _ = b.Close() }},
		{"fail-over", true, func(_ *bridge.Bridge, nc *nats.Conn) { nc.Close() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := natstest.Start(t)
			// Time enough for a slow machine.
			opts := []bridge.Option{bridge.Interval(4 * time.Second)}
			first, nc := join(t, s, opts...)
			leads(t, first)
			here, _ := registry(t, s)
			there := startPlain(t, s.Connect(), "registry", every)
			there.observe("web")
			// A bridge that begins has to ask.
			old := startPlain(t, s.Connect(), "registry", time.Minute)
			old.register(plainService{Name: "web", Address: "10.0.0.1:80"})
			// A name that the tenant has only from there.
			old.register(plainService{Name: "other", Address: "10.0.0.1:80"})
			register(t, here, kvregistry.Service{Name: "web", Address: "10.0.0.2:80"})
			both(t, natstest.Soon, here, there, "web", "10.0.0.1:80", "10.0.0.2:80")
			events, err := here.Watch(t.Context(), "web")
			if err != nil {
				t.Fatal(err)
			}
			<-events
			<-events
			dog := guard(t, here, there, "web")
			dog.moves("10.0.0.1:80", false)
			dog.moves("10.0.0.2:80", false)

			next := first
			start := func() { next, nc = join(t, s, opts...) }
			for range 3 {
				was, wasOn := next, nc
				if tc.standBy {
					start()
					natstest.Eventually(t, natstest.Soon, func() error {
						if h, o := next.Health(), was.Health(); h.Others != 1 || o.Others != 1 ||
							h.Leads == o.Leads || h.Heard != 2 {
							return fmt.Errorf("%+v and %+v: they do not share the work", h, o)
						}
						return nil
					})
					// The one with the lesser id leads; the test ends the one that leads.
					if next.Health().Leads {
						next, was, nc, wasOn = was, next, wasOn, nc
					}
				}
				tc.end(was, wasOn)
				if !tc.standBy {
					start()
				}
				natstest.Eventually(t, natstest.Soon, func() error {
					if h := next.Health(); !h.Leads || h.Held != 2 || h.Told != 1 {
						return fmt.Errorf("%+v: the successor did not take over", h)
					}
					return nil
				})
			}
			time.Sleep(2 * ttl) // nothing of those that ended is left to expire
			both(t, natstest.Soon, here, there, "web", "10.0.0.1:80", "10.0.0.2:80")
			select {
			case e := <-events:
				t.Errorf("an observer of the tenant was told: %s %+v", e.Kind, e.Service)
			default:
			}
			if told := there.told(); len(told) != 2 {
				t.Errorf("an observer there was told %q", told)
			}
		})
	}
}

// slowSigner signs when its gate is closed, and says that it was asked.
type slowSigner struct {
	nkeys.KeyPair
	asked func()
	gate  chan struct{}
}

func (s slowSigner) Sign(data []byte) ([]byte, error) {
	s.asked()
	<-s.gate
	return s.KeyPair.Sign(data)
}

// A registration that is under way when the bridge is closed stays, as each other one does, until
// the lease ends. Seen to fail with a write that ends with the bridge: it was taken back.
func TestCloseDuringAWrite(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	here, _ := registry(t, s)
	events, err := here.Watch(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	signer := slowSigner{pair, sync.OnceFunc(func() { close(asked) }), make(chan struct{})}
	open := sync.OnceFunc(func() { close(signer.gate) })
	b, _ := join(t, s, bridge.With(kvregistry.SignWith(signer)))
	t.Cleanup(open)
	leads(t, b)
	plain := startPlain(t, s.Connect(), "registry", every)
	plain.register(plainService{Name: "web", Address: "10.0.0.1:80"})
	<-asked
	closed := make(chan error, 1)
	go func() { closed <- b.Close() }() // ends below
	natstest.Eventually(t, natstest.Soon, func() error {
		if b.Health().Heard > 0 {
			return errors.New("the bridge's loop goes on")
		}
		return nil
	})
	open()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	for _, want := range []kvregistry.Kind{kvregistry.Registered, kvregistry.Expired} {
		select {
		case e := <-events:
			if e.Kind != want {
				t.Errorf("an observer is told %s, want %s", e.Kind, want)
			}
		case <-time.After(natstest.Soon):
			t.Fatalf("an observer is not told %s", want)
		}
	}
}

// A bridge that stands by leads as soon as the other is stopped, and does not wait as for one that
// died. Seen to fail with Close that says nothing.
func TestHandOverAtOnce(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	first, _ := join(t, s, bridge.TTL(time.Minute))
	leads(t, first)
	var took time.Duration
	for range 5 { // the machine may be slow
		second, _ := join(t, s, bridge.TTL(time.Minute))
		time.Sleep(3 * time.Second) // it has listened
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		closed := time.Now()
		leads(t, second)
		// After a death, it waits 3 s for a sign.
		if took = time.Since(closed); took < 1500*time.Millisecond {
			return
		}
		first = second
	}
	t.Errorf("it waits: the last of five led after %s", took)
}

// If an instance ends while the bridge that led is dead and no other leads yet, the next bridge
// tells plain processes. Seen to fail with sayEnd that remembers nothing.
func TestEndWhileNobodyLeads(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	first, nc := join(t, s, bridge.Interval(time.Minute)) // nothing is forgotten by itself
	leads(t, first)
	second, _ := join(t, s, bridge.Interval(time.Minute))
	here, _ := registry(t, s)
	there := startPlain(t, s.Connect(), "registry", every)
	there.observe("web")
	end := register(t, here, kvregistry.Service{Name: "web", Address: "10.0.0.1:80"})
	both(t, natstest.Soon, here, there, "web", "10.0.0.1:80")
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := second.Health(); h.Told != 1 || h.Others != 1 || h.Leads {
			return fmt.Errorf("%+v: it does not stand by", h)
		}
		return nil
	})
	nc.Close()
	if err := end(); err != nil {
		t.Fatal(err)
	}
	both(t, natstest.Soon, here, there, "web")
}

// With several bridges side by side, each instance is there once on either side, and each change is
// told once. A bridge that stands by writes nothing, and the one that leads goes on when others
// come. Seen to fail with decide that says that all lead: observers there heard of the end of an
// instance more than once, and bridges went on writing.
func TestSideBySide(t *testing.T) {
	natstest.Long(t)
	t.Parallel()
	s := natstest.Start(t)
	here, nc := registry(t, s)
	// So that no instance is forgotten and heard again on a slow machine.
	const every = 2 * time.Second
	there := startPlain(t, s.Connect(), "registry", every)
	there.observe("*")
	var bridges []*bridge.Bridge
	for i := range 3 {
		b, _ := join(t, s, bridge.Interval(every))
		if bridges = append(bridges, b); i == 0 {
			leads(t, b)
		}
	}
	for range 2 { // the second time after they have listened for one another
		natstest.Eventually(t, natstest.Soon, func() error {
			for i, b := range bridges {
				if h := b.Health(); h.Others != 2 || h.Leads != (i == 0) {
					return fmt.Errorf("bridge %d: %+v; the first is to lead, and to go on", i, h)
				}
			}
			return nil
		})
		time.Sleep(ttl)
	}
	old := startPlain(t, s.Connect(), "registry", every)
	var want []string
	for i := range 20 {
		old.register(plainService{Name: "old", Address: fmt.Sprintf("10.0.0.%d:80", i)})
		register(t, here, kvregistry.Service{Name: "new", Address: fmt.Sprintf("10.0.1.%d:80", i)})
		want = append(want, fmt.Sprintf("register new 10.0.1.%d:80", i),
			fmt.Sprintf("register old 10.0.0.%d:80", i))
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if a, b := len(addresses(t, here, "old")), len(there.addresses("new")); a != 20 || b != 20 {
			return fmt.Errorf("the tenant sees %d, the plain process %d", a, b)
		}
		return nil
	})
	_, before := keys(t, nc)
	time.Sleep(3 * every)
	if _, after := keys(t, nc); after != before {
		t.Errorf("registrations were written while nothing changed: sequence %d, and "+
			"then %d", before, after)
	}
	old.stop()
	if err := here.Unregister("new"); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		want = append(want, fmt.Sprintf("unregister new 10.0.1.%d:80", i),
			fmt.Sprintf("unregister old 10.0.0.%d:80", i))
	}
	slices.Sort(want)
	sees(t, natstest.Soon, "the observer there", func() []string {
		return slices.Sorted(slices.Values(there.told()))
	}, want...)
	sees(t, natstest.Soon, "the tenant", func() []string { return addresses(t, here, "old") })
	time.Sleep(3 * every)
	sees(t, 0, "the observer there", func() []string {
		return slices.Sorted(slices.Values(there.told()))
	}, want...)
}

// keys returns the keys of registrations that the bucket has a message of, and the sequence of the
// last of these messages.
func keys(t testing.TB, nc *nats.Conn) (subjects []string, last uint64) {
	t.Helper()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	info, err := js.StreamInfo("KV_registry_default",
		&nats.StreamInfoRequest{SubjectsFilter: "$KV.registry_default.svc.>"})
	if err != nil {
		t.Fatal(err)
	}
	for subject := range info.State.Subjects {
		m, err := js.GetLastMsg("KV_registry_default", subject)
		if err != nil {
			t.Fatal(err)
		}
		subjects, last = append(subjects, subject), max(last, m.Sequence)
	}
	return subjects, last
}

// What a bridge says comes back to no tenant: not by itself, not by another bridge of the same
// tenant on another prefix, and not by one of another tenant on the same prefix. Tenants with
// prefixes of their own do not see each other. Seen to fail with receive that does not read the
// mark, and with change that tells what has an origin.
func TestNothingGoesRound(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	acme, _ := registry(t, s, kvregistry.Tenant("acme"))
	beta, _ := registry(t, s, kvregistry.Tenant("beta"))
	var bridges []*bridge.Bridge
	for _, of := range [][2]string{{"acme", "one"}, {"acme", "two"}, {"beta", "two"},
		{"beta", "three"}} {
		b, _ := join(t, s, bridge.Tenant(of[0]), bridge.Prefix(of[1]))
		bridges = append(bridges, b)
	}
	for _, b := range bridges {
		leads(t, b)
	}
	one, two := startPlain(t, s.Connect(), "one", every), startPlain(t, s.Connect(), "two", every)
	one.observe("*")
	two.observe("*")
	startPlain(t, s.Connect(), "one", every).register(plainService{Name: "web",
		Address: "plain-one:80"})
	startPlain(t, s.Connect(), "two", every).register(plainService{Name: "web",
		Address: "plain-two:80"})
	register(t, acme, kvregistry.Service{Name: "web", Address: "acme:80"})
	register(t, beta, kvregistry.Service{Name: "web", Address: "beta:80"})
	look := func(within time.Duration) {
		t.Helper()
		sees(t, within, "acme", func() []string {
			return addresses(t, acme, "web")
		}, "acme:80", "plain-one:80", "plain-two:80")
		sees(t, within, "beta", func() []string {
			return addresses(t, beta, "web")
		}, "beta:80", "plain-two:80")
		sees(t, within, "one", func() []string {
			return one.addresses("web")
		}, "acme:80", "plain-one:80")
		sees(t, within, "two", func() []string {
			return two.addresses("web")
		}, "acme:80", "beta:80", "plain-two:80")
	}
	look(natstest.Soon)
	time.Sleep(4 * every)
	look(0)
}

// Through a restart of NATS and an outage that is longer than any time of either side, the tenant's
// look-ups go on, and the plain side has everything again soon after. Seen to fail with resume that
// leaves the times as they are.
func TestRestartOfNATS(t *testing.T) {
	t.Parallel()
	s, b, here, there := sides(t, "web")
	// It is back later than the bridge.
	old := startPlain(t, s.Connect(nats.ReconnectWait(3*time.Second)), "registry", 3*time.Second)
	old.register(plainService{Name: "web", Address: "10.0.0.1:80"})
	register(t, here, kvregistry.Service{Name: "web", Address: "10.0.0.2:80"})
	both(t, natstest.Soon, here, there, "web", "10.0.0.1:80", "10.0.0.2:80")
	for _, outage := range []time.Duration{0, 2 * ttl} {
		var lost []string
		end, done := make(chan struct{}), make(chan struct{})
		go func() { // ends with end
			defer close(done)
			for {
				select {
				case <-end:
					return
				case <-time.After(time.Millisecond):
				}
				if got := addresses(t, here, "web"); len(got) != 2 && lost == nil {
					lost = append(got, "are left")
				}
			}
		}()
		s.Outage(outage)
		both(t, natstest.Soon, here, there, "web", "10.0.0.1:80", "10.0.0.2:80")
		leads(t, b)
		time.Sleep(2 * every)
		both(t, natstest.Soon, here, there, "web", "10.0.0.1:80", "10.0.0.2:80")
		close(end)
		<-done
		if lost != nil {
			t.Errorf("outage of %s: the tenant's look-ups gave %q", outage, lost)
		}
	}
}

// The plain processes may be on a server of their own, without JetStream. While it does not answer,
// no instance counts as silent. Seen to fail with tick that ignores whether the server answers.
func TestPlainServerThatFallsSilent(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	old := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
	link := newLink(t, old.URL())
	// NATS itself notices nothing.
	nc := natstest.Connect(t, link.url(), nats.PingInterval(time.Hour))
	b, _ := join(t, s, bridge.Plain(nc))
	leads(t, b)
	here, _ := registry(t, s)
	there := startPlain(t, old.Connect(), "registry", every)
	there.observe("web")
	there.register(plainService{Name: "web", Address: "10.0.0.1:80"})
	register(t, here, kvregistry.Service{Name: "web", Address: "10.0.0.2:80"})
	both(t, natstest.Soon, here, there, "web", "10.0.0.1:80", "10.0.0.2:80")
	link.freeze(true)
	natstest.Eventually(t, natstest.Soon, func() error {
		if got := addresses(t, here, "web"); len(got) != 2 {
			t.Fatalf("the tenant sees %q", got)
		}
		if b.Health().Connected {
			return errors.New("the bridge has not noticed that nothing answers")
		}
		return nil
	})
	for began := time.Now(); time.Since(began) < 3*every; time.Sleep(time.Millisecond) {
		if got := addresses(t, here, "web"); len(got) != 2 {
			t.Fatalf("the tenant sees %q", got)
		}
	}
	link.freeze(false)
	leads(t, b)
	both(t, natstest.Soon, here, there, "web", "10.0.0.1:80", "10.0.0.2:80")
}

// Whatever comes under the prefix, a bridge goes on, and registers no more than it may. Seen to
// fail without a budget, and with decode that does not compare the name.
func TestHostilePlainSide(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, _ := join(t, s, bridge.MaxInstances(10), bridge.Logger(discard))
	leads(t, b)
	here, _ := registry(t, s)
	nc := s.Connect()
	publish := func(subject, data string) {
		t.Helper()
		if err := nc.Publish("registry."+subject, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	publish("register.good",
		`{"name":"good","add":"10.0.0.1:80","t":{"Registered":0,"Duration":3600000}}`)
	sees(t, natstest.Soon, "the tenant", func() []string {
		return addresses(t, here, "good")
	}, "10.0.0.1:80")
	for _, bad := range []string{
		"", "null", "[]", "{", `{"name":"other","add":"a:1"}`, `{"name":7}`,
		`{"name":"bad","add":"a:1","kv":{"a":1}}`,
		`{"name":"bad","add":"a:1","t":{"Duration":1e300}}`, "\xff\xfe",
		`{"name":"bad","kv":{"a":"` + strings.Repeat("x", 70_000) + `"}}`,
		strings.Repeat("[", 60_000), `{"name":"bad"}`,
	} {
		publish("register.bad", bad)
		publish("unregister.bad", bad)
		publish("unregister.good", bad)
		publish("bridge.default", bad)
		publish("ping.bad", bad)
	}
	for _, subject := range []string{"register", "register.x.*", "register.x.>", "nonsense",
		"ping.*", "ping.>", "bridge", "bridge.x"} {
		publish(subject, `{"name":"bad","add":"a:1"}`)
	}
	sees(t, natstest.Soon, "the tenant", func() []string {
		if b.Health().Skipped < 20 {
			return nil
		}
		return addresses(t, here, "good")
	}, "10.0.0.1:80")
	names, err := here.ServiceNames()
	if diff := cmp.Diff([]string{"good"}, names); diff != "" || err != nil {
		t.Errorf("services (-want +got), %v:\n%s", err, diff)
	}

	for i := range 1000 { // always new ones
		publish("register.flood", fmt.Sprintf(`{"name":"flood","add":"10.0.0.1:%d"}`, i))
		publish("unregister.flood", fmt.Sprintf(`{"name":"flood","add":"10.0.0.1:%d"}`, i))
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := b.Health(); h.Dropped < 900 {
			return fmt.Errorf("%+v: the flood is not dropped", h)
		}
		return nil
	})
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	// The ten, and one that was let in meanwhile.
	if subjects, _ := keys(t, nc); len(subjects) > 11 {
		t.Errorf("%d keys were written for 10 that may be: %q", len(subjects), subjects)
	}
}

// Nothing of a bridge is left after Close: neither subscriptions nor consumers. Seen to fail with
// Close that does not end the registry, and with one that keeps the subscription.
func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	var subs uint32
	for i := range 4 {
		b, err := bridge.New(t.Context(), nc, bridge.TTL(ttl))
		if err != nil {
			t.Fatal(err)
		}
		leads(t, b)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Errorf("closed again: %v", err)
		}
		if h := b.Health(); h.Leads || h.Heard != 0 {
			t.Errorf("health after Close: %+v", h)
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			if names := natstest.Consumers(t, nc, "KV_registry_default"); len(names) > 0 {
				return fmt.Errorf("consumers %q stay", names)
			}
			switch n := s.Server().NumSubscriptions(); {
			case i == 0: // what the bucket and the connection have now stays
				subs = n
			case n > subs:
				return fmt.Errorf("%d subscriptions, and %d after the first bridge", n, subs)
			}
			return nil
		})
	}
}

// A bridge needs only the role of a service in its tenant, and its prefix. Seen to fail without the
// role's permissions, and without the prefix's.
func TestRoleOfABridge(t *testing.T) {
	t.Parallel()
	access, err := operator.Permissions(kvregistry.DefaultTenant, operator.RoleService)
	if err != nil {
		t.Fatal(err)
	}
	may := &server.Permissions{
		Publish: &server.SubjectPermission{Allow: append([]string{"registry.>"},
			access.Publish...)},
		Subscribe: &server.SubjectPermission{Allow: []string{"registry.>", access.Inbox + ".>"}},
	}
	s := natstest.Start(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "all", Password: "pw"}, {Username: "bridge",
			Password: "pw", Permissions: may}}
	})
	all := s.Connect(nats.UserInfo("all", "pw"))
	here, err := kvregistry.New(t.Context(), all, kvregistry.TTL(ttl))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = here.Close() })
	var refused atomic.Value
	nc := s.Connect(nats.UserInfo("bridge", "pw"), nats.CustomInboxPrefix(access.Inbox),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			refused.Store(err)
		}))
	b, err := bridge.New(t.Context(), nc, bridge.TTL(ttl), bridge.Interval(every))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	leads(t, b)
	there := startPlain(t, all, "registry", every)
	there.observe("web")
	there.register(plainService{Name: "web", Address: "10.0.0.1:80"})
	register(t, here, kvregistry.Service{Name: "web", Address: "10.0.0.2:80"})
	both(t, natstest.Soon, here, there, "web", "10.0.0.1:80", "10.0.0.2:80")
	there.unregister(plainService{Name: "web", Address: "10.0.0.1:80"})
	both(t, natstest.Soon, here, there, "web", "10.0.0.2:80")
	if err := refused.Load(); err != nil {
		t.Error(err)
	}
}

func TestOptionsThatCantBe(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	for name, tc := range map[string]struct {
		opt  bridge.Option
		want error
		text string
	}{
		"nil":         {nil, kvregistry.ErrInvalidOption, "nil"},
		"tenant":      {bridge.Tenant("a.b"), kvregistry.ErrInvalidOption, "Tenant"},
		"ttl":         {bridge.TTL(time.Second), kvregistry.ErrInvalidOption, "TTL"},
		"no prefix":   {bridge.Prefix(""), kvregistry.ErrInvalidOption, "acme.registry"},
		"wildcard":    {bridge.Prefix("a.*"), kvregistry.ErrInvalidOption, `"a.*"`},
		"empty token": {bridge.Prefix("a..b"), kvregistry.ErrInvalidOption, `"a..b"`},
		"long prefix": {bridge.Prefix(strings.Repeat("a", 129)), kvregistry.ErrInvalidOption,
			"128 bytes"},
		"interval":  {bridge.Interval(time.Millisecond), kvregistry.ErrInvalidOption, "1ms"},
		"instances": {bridge.MaxInstances(0), kvregistry.ErrInvalidOption, "MaxInstances(0)"},
		"no logger": {bridge.Logger(nil), kvregistry.ErrInvalidOption, "slog.DiscardHandler"},
		"no plain":  {bridge.Plain(nil), kvregistry.ErrNilConnection, "Plain"},
		"the registry": {bridge.With(kvregistry.MaxRecord(1)), kvregistry.ErrInvalidOption,
			"MaxRecord"},
	} {
		b, err := bridge.New(t.Context(), nc, tc.opt)
		if !errors.Is(err, tc.want) || !strings.Contains(fmt.Sprint(err), tc.text) ||
			!strings.HasPrefix(fmt.Sprint(err), "bridge: ") {
			t.Errorf("%s: %v, want %v and %q", name, err, tc.want, tc.text)
		}
		if b != nil {
			_ = b.Close()
		}
	}
	if _, err := bridge.New(context.Background(), nil); !errors.Is(err,
		kvregistry.ErrNilConnection) {
		t.Errorf("no connection: %v", err)
	}
	old := natstest.Start(t, func(o *server.Options) { o.NoHeaderSupport = true })
	if _, err := bridge.New(t.Context(), nc, bridge.Plain(old.Connect())); !errors.Is(err,
		bridge.ErrNoHeaders) {
		t.Errorf("no headers: %v", err)
	}
}
