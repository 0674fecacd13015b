package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// RegisterAll registers many instances like as many calls of Register, and its unregister removes
// them all. Seen to fail with writes that are not recorded as acknowledged, and with an unregister
// that removes the first instance twice.
func TestRegisterAll(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	long := kvregistry.TTL(15 * time.Second) // after a lost lease all would be written again
	r, observer := open(t, s, long), open(t, s, long)
	// an earlier owner, which is fenced
	register(t, observer, kvregistry.Service{Name: "many", ID: "000", Address: "old:1"})
	const n = 2000
	var list []kvregistry.Service
	for i := range n {
		list = append(list, kvregistry.Service{Name: "many", ID: fmt.Sprintf("%03d", i),
			Address: fmt.Sprintf("h:1%d", i)})
	}
	list[1].ID = "" // an id is made
	began := time.Now()
	unregister, err := r.RegisterAll(t.Context(), list...)
	must(t, err)
	// a write without an answer is repeated after 1.5 s
	times := 1 + time.Since(began)/(1500*time.Millisecond)
	got, last := r.RegisteredServices(), uint64(0)
	for _, s := range got {
		last = max(last, s.Revision)
	}
	// each was written once, unless a slow server did not answer in time
	if len(got) != n || got[0].Revision == 0 || last > uint64(times)*n+n/2 && !raced {
		t.Errorf("%d are registered, the last at revision %d", len(got), last)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		got, err := observer.GetServices(t.Context(), "many")
		if err == nil && (len(got) != n || got[0].Address != "h:10") {
			err = fmt.Errorf("an observer has %d, the first is %v", len(got), got[0])
		}
		return err
	})
	if h := r.Health(); h.Err != nil {
		t.Errorf("%+v", h)
	}
	must(t, unregister())
	must(t, unregister()) // a second call is no error
	sees(t, observer, natstest.Soon, "many")
	if left := keys(t, s.Connect(), "default", "svc."); len(left) > 0 {
		t.Errorf("%d registrations remain: %.100s", len(left), left)
	}
}

// An error of RegisterAll names the instance that is wrong. If one instance is invalid, none is
// registered.
func TestRegisterAllOfWhichSomeCannotBe(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	bad := web("bad")
	bad.URL, bad.Address = "", ""
	un, err := r.RegisterAll(t.Context(), web("a"), bad, web("b"))
	if !isErr(err, kvregistry.ErrInvalidService) || un != nil || len(r.RegisteredServices()) > 0 {
		t.Errorf("an invalid one gave %v, and %v are registered", err, r.RegisteredServices())
	}
	if un, err := r.RegisterAll(t.Context()); un != nil || err != nil {
		t.Errorf("RegisterAll of none gave %v", err)
	}
	other := web("a")
	other.Version = "2"
	un, err = r.RegisterAll(t.Context(), web("a"), web("b"), other, web("b"))
	if !isErr(err, kvregistry.ErrFenced) || !strings.Contains(err.Error(), `"a"`) || un == nil ||
		len(r.RegisteredServices()) != 2 {
		t.Errorf("one id twice gave %v, and %v are registered", err, r.RegisteredServices())
	}
	must(t, un())
	must(t, r.Close())
	if un, err := r.RegisterAll(t.Context(), web("a"),
		web("b")); !isErr(err, kvregistry.ErrClosed) || un != nil {
		t.Errorf("a closed registry gave %v", err)
	}
}

// RegisterAll registers the services that the user may register, and returns an error for the
// others. Seen to fail with a refusal that is applied to all that had no answer yet.
func TestRegisterAllOfWhichSomeAreRefused(t *testing.T) {
	t.Parallel()
	g := passwords(t, roles(t))
	must(t, operator.Provision(t.Context(), g.as(t, "root"), "acme", tenant.Config{}))
	r := openOn(t, g.as(t, string(operator.RoleRegistrar)), kvregistry.Tenant("acme"),
		kvregistry.WithoutReaping())
	observer := openOn(t, g.as(t, "root"), kvregistry.Tenant("acme"))
	var list []kvregistry.Service
	var want []string
	for i := range 40 {
		id := fmt.Sprintf("%02d", i)
		list = append(list, web(id), kvregistry.Service{Name: "forbidden", ID: id, Address: "a:1"})
		want = append(want, id)
	}
	un, err := r.RegisterAll(t.Context(), list...)
	if !isErr(err, kvregistry.ErrPermission) || un == nil ||
		strings.Count(err.Error(), `of service "forbidden"`) != 40 ||
		strings.Contains(err.Error(), `of service "web"`) {
		t.Errorf("%v", err)
	}
	sees(t, observer, natstest.Soon, "web", want...)
	if got := r.RegisteredServices(); len(got) != len(want) {
		t.Errorf("%d are registered, want %d", len(got), len(want))
	}
}

// While the server is away, all instances are pending. They are written when the server is back.
func TestRegisterAllWithoutAServer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r, observer := open(t, s), open(t, s)
	register(t, r, web("first"))
	sees(t, observer, natstest.Soon, "web", "first")
	s.Down()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	un, err := r.RegisterAll(ctx, web("a"), web("b"), web("c"))
	if !isErr(err, kvregistry.ErrPending) || !errors.Is(err, context.DeadlineExceeded) ||
		un == nil {
		t.Fatalf("without a server it gave %v", err)
	}
	s.Up()
	sees(t, observer, natstest.Soon, "web", "a", "b", "c", "first")
	must(t, un())
	sees(t, observer, natstest.Soon, "web", "first")
}

// Thousands of registrations at once succeed over a link that takes seconds for all of them,
// because waiting writes are not sent again and again. Seen to fail with a crowd without a limit:
// 4,800 to 5,100 writes, and over a link with a fifth of the rate 12,000, of which the last were
// not acknowledged in 30 s.
func TestCrowdThatRegistersAtOnce(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	r := openOn(t, natstest.Connect(t, l.URL()), kvregistry.TTL(15*time.Second),
		kvregistry.WithoutReaping())
	register(t, r, web("first"))
	l.narrow(500)
	const n = 8000
	errs, began := make([]error, n), time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			_, errs[i] = r.RegisterContext(ctx, web(fmt.Sprint(i)))
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		t.Errorf("%.500v", err)
	}
	last := uint64(0)
	for _, s := range r.RegisteredServices() {
		last = max(last, s.Revision)
	}
	t.Logf("%d registrations were written %d times in %s", n, last, took.Round(time.Millisecond))
	if last > 11*n/10 && took < natstest.Soon { // a slower server may not answer in time
		t.Errorf("%d registrations were written %d times", n, last)
	}
}
