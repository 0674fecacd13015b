package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// says waits until a log has, once, a line with each of some texts.
func says(t *testing.T, log *natstest.Log, lines ...string) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		for _, line := range lines {
			n := 0
			for _, have := range log.With(strings.Split(line, " ... ")[0]) {
				if all := strings.Split(line, " ... "); len(all) == 1 ||
					strings.Contains(have, all[1]) {
					n++
				}
			}
			if n != 1 {
				return fmt.Errorf("%d lines have %q:\n%s", n, line, log)
			}
		}
		return nil
	})
}

// Each change of state of a process is one log line, in words that need no knowledge of the
// library. Registrations that change together share one line. Seen to fail without tellNews and
// tellNATS, and if each write logs a draining.
func TestChangesOfStateAreLogged(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	log, other := &natstest.Log{}, &natstest.Log{}
	r := newRegistry(t, s, Logger(log.Logger()))
	if err := r.ObserveContext(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	mustRegister(t, r, Service{Name: "web", ID: "a", Address: "h:1"})
	says(t, log, `"kvregistry: registered" ... service=web instance=a`)
	unregister, err := r.RegisterAll(t.Context(), Service{Name: "web", ID: "b", Address: "h:2"},
		Service{Name: "api", ID: "c", Address: "h:3"})
	if err != nil {
		t.Fatal(err)
	}
	says(t, log, `"kvregistry: registered" ... services=2 instances=2`)
	if err := r.SetStatus("web", Warning); err != nil {
		t.Fatal(err)
	}
	says(t, log, `"kvregistry: status changed" ... service=web instances=2 status=warning`)
	if err := unregister(); err != nil {
		t.Fatal(err)
	}
	says(t, log, `"kvregistry: unregistered" ... services=2 instances=2`)
	if err := r.Drain(t.Context(), Settle(0)); err != nil {
		t.Fatal(err)
	}
	says(t, log, `"kvregistry: draining" ... service=web instance=a`,
		`"kvregistry: unregistered" ... service=web instance=a`)

	next := newRegistry(t, s, Logger(other.Logger()))
	hold, err := r.Exclusive(t.Context(), "leader")
	if err != nil {
		t.Fatal(err)
	}
	says(t, log, `"kvregistry: holds a name" ... name=leader`)
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error, 1)
	go func() { _, err := next.Exclusive(ctx, "leader"); waited <- err }() // ends with ctx
	says(t, other, `"kvregistry: waits for a name" ... name=leader`)
	cancel()
	if err := <-waited; err == nil {
		t.Error("it got the name")
	}
	says(t, other, `"kvregistry: waits no more for a name" ... name=leader`)
	if err := hold.Close(); err != nil {
		t.Error(err)
	}
	says(t, log, `"kvregistry: released a name" ... name=leader`)

	mustRegister(t, r, Service{Name: "web", ID: "d", Address: "h:4"})
	s.Down()
	says(t, log, `"kvregistry: NATS is away"`, `"kvregistry: lease lost, taking a new one"`)
	s.Up()
	says(t, log, `"kvregistry: NATS is back" ... away=`,
		`"kvregistry: registered again" ... service=web instance=d`)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	says(t, log, `"kvregistry: unregistered" ... service=web instance=d`)
}

// A process that registers thousands, one by one or together, does not flood the log. Each of its
// registrations is counted. Seen to fail with a journal that holds nothing.
func TestThousandsShareLines(t *testing.T) {
	t.Parallel()
	const many = 300
	s := natstest.Start(t)
	log := &natstest.Log{}
	r := newRegistry(t, s, Logger(log.Logger()), TTL(time.Minute)) // no lease is lost under load
	var together []Service
	for i := range many {
		together = append(together, Service{Name: "all", ID: fmt.Sprint(i), Address: "h:1"})
	}
	if _, err := r.RegisterAll(t.Context(), together...); err != nil {
		t.Fatal(err)
	}
	says(t, log, fmt.Sprintf(`"kvregistry: registered" ... service=all instances=%d`, many))
	began := time.Now()
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			if _, err := r.RegisterContext(t.Context(), Service{Name: "each", ID: fmt.Sprint(i),
				Address: "h:1"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	natstest.Eventually(t, natstest.Soon, func() error {
		n := log.Count("service=each instance=")
		// from the background, and what was held back
		for _, count := range []string{"service=each instances=", " times="} {
			for _, line := range log.With(count) {
				var held int
				_, text, _ := strings.Cut(line, count)
				if _, err := fmt.Sscan(text, &held); err != nil {
					t.Fatal(line)
				}
				n += held
			}
		}
		if n != many {
			return fmt.Errorf("%d registrations are logged, want %d", n, many)
		}
		return nil
	})
	if n, most := log.Count(lineRegistered), 1+journal.Burst+
		3*int(1+time.Since(began)/journal.Interval); n > most {
		t.Errorf("%d lines, want %d at most", n, most)
	}
}

// A process that started before NATS reports what the server refuses, in the log, in Health and in
// each call. It goes on when that is mended. Seen to fail with a provision and a reconcile that
// report nothing.
func TestRefusalAfterADeferredStart(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T, u users, s *natstest.Server, name string, log *natstest.Log,
		svc string) *Registry {
		r := u.open(t, s, name, Logger(log.Logger()))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := r.RegisterContext(ctx, Service{Name: svc, ID: "a",
			Address: "h:1"}); !errors.Is(err, ErrPending) {
			t.Fatalf("Register gave %v", err)
		}
		if h := r.Health(); h.Refused != nil || h.Err == nil {
			t.Errorf("before NATS is there: %+v", h)
		}
		return r
	}
	refused := func(t *testing.T, r *Registry) {
		t.Helper()
		natstest.Eventually(t, natstest.Soon, func() error {
			if h := r.Health(); h.Ready() || h.OK() || !errors.Is(h.Refused, ErrPermission) ||
				!errors.Is(h.Err, ErrPermission) {
				return fmt.Errorf("Health is %+v", h)
			}
			return nil
		})
	}
	for _, role := range []string{"registrar", "service"} {
		t.Run("no bucket for a "+role, func(t *testing.T) {
			t.Parallel()
			u, log := newUsers(t), &natstest.Log{}
			s := natstest.Start(t, u.configure(t))
			s.Down()
			r := start(t, u, s, role, log, "web")
			s.Up()
			refused(t, r)
			says(t, log,
				`"kvregistry: the bucket can't be used, trying again" ... have an admin make it`)
			_, err := r.Exclusive(t.Context(), "web")
			_, other := r.Register(Service{Name: "web", ID: "b", Address: "h:1"})
			for _, err := range []error{err, other} {
				if !errors.Is(err, tenant.ErrBucketNotFound) ||
					!strings.Contains(err.Error(), "bucket registry_default is not there") {
					t.Errorf("a call gave %v", err)
				}
			}
			u.makeBucket(t, s)
			says(t, log, `"kvregistry: the bucket can be used now"`,
				`"kvregistry: registered" ... service=web instance=a`)
			if err := r.Unregister("web"); err != nil {
				t.Error(err)
			}
			if h := r.Health(); !h.Ready() || h.Refused != nil {
				t.Errorf("after the bucket was created: %+v", h)
			}
		})
	}
	for _, role := range []string{"registrar", "observer"} {
		t.Run("no permission for a "+role, func(t *testing.T) {
			t.Parallel()
			u, log := newUsers(t), &natstest.Log{}
			s := natstest.Start(t, u.configure(t))
			u.makeBucket(t, s)
			s.Down()
			r := start(t, u, s, role, log, "api")
			s.Up()
			refused(t, r)
			line := `"kvregistry: the server refuses what this process registers, asking again"` +
				` ... service=api instance=a`
			if role == "observer" {
				line = `"kvregistry: no lease can be had, trying again" ... permission denied`
			}
			says(t, log, line)
		})
	}
}

// If the bucket is deleted and can't be created again, the log, Health and each call say so. All
// goes on when an admin has created it. Seen to fail with a view that does not report it.
func TestBucketThatIsGone(t *testing.T) {
	t.Parallel()
	u, log := newUsers(t), &natstest.Log{}
	s := natstest.Start(t, u.configure(t))
	u.makeBucket(t, s)
	r := u.open(t, s, "registrar", Logger(log.Logger()))
	mustRegister(t, r, Service{Name: "web", ID: "a", Address: "h:1"})
	if err := r.ObserveContext(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if err := operator.Remove(t.Context(), s.Connect(u.options("admin")...),
		DefaultTenant); err != nil {
		t.Fatal(err)
	}
	const want = "have an admin make it"
	says(t, log, `"kvregistry: the bucket is gone, and this user may not make it again" ... `+want)
	natstest.Eventually(t, natstest.Soon, func() error { // a call may not have the time to notice
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := r.RegisterContext(ctx, Service{Name: "web", ID: "b", Address: "h:1"})
		_, other := r.GetService("other")
		for _, err := range []error{err, other, r.Health().Err} {
			if err == nil || !strings.Contains(err.Error(), want) {
				return fmt.Errorf("a call gave %v", err)
			}
		}
		return nil
	})
	u.makeBucket(t, s)
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := r.Health(); !h.OK() {
			return fmt.Errorf("Health is %+v", h)
		}
		return nil
	})
}

// The log and Health say why NATS can't be reached, or why the connection was closed. Seen to fail
// with causes that are the connection's own alone, and with a closed connection that has none.
func TestCauseOfAFailedConnect(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, func(o *server.Options) { o.Username, o.Password = "a", "b" })
	for name, tc := range map[string]struct{ url, line, cause string }{
		"host": {"nosuchhost.invalid:4222", "NATS is away", "nosuchhost.invalid"},
		"port": {"127.0.0.1:1", "NATS is away", "refused"},
		"password": {strings.Replace(s.URL(), "//", "//a:wrong@", 1), "level=WARN",
			"Authorization Violation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nc, err := Dial(tc.url)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(nc.Close)
			log := &natstest.Log{}
			r, err := New(t.Context(), nc, Logger(log.Logger()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close() })
			says(t, log, tc.line+" ... "+tc.cause)
			if h := r.Health(); h.Err == nil || !strings.Contains(h.Err.Error(), tc.cause) {
				t.Errorf("Health.Err is %v", h.Err)
			}
		})
	}
}

// ErrNotFound doubts the tenant's name only if the service has no instance. Seen to fail with a
// doubt each time.
func TestNotFoundDoubtsTheTenant(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, natstest.Start(t))
	mustRegister(t, r, Service{Name: "web", ID: "a", Address: "h:1"})
	for name, doubts := range map[string]bool{"web": false, "api": true} {
		_, err := r.GetServices(t.Context(), name, InZone("none"))
		if !errors.Is(err, ErrNotFound) || strings.Contains(err.Error(), "name right") != doubts {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := r.Register(Service{Name: "db", Network: "tpc", Address: "h:1"})
	if !errors.Is(err, ErrInvalidService) || !strings.Contains(err.Error(), `"tpc"`) {
		t.Errorf("Register with a bad network gave %v", err)
	}
}
