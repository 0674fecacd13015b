package integration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 2, crash: a killed process leaves every observer's cache within TTL + 1 s, and no live
// process ever does. Seen to fail with a reaper that purges nothing, and with a heartbeat interval
// of two TTLs.
func TestKilledProcessIsOut(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	observers := []*kvregistry.Registry{open(t, s), open(t, s)}
	live := start(t, plan{URL: s.URL(), Services: []kvregistry.Service{web("live")}})
	dead := start(t, plan{URL: s.URL(), Services: []kvregistry.Service{web("dead"),
		{ID: "dead", Name: "other", Address: "127.0.0.1:1"}}})
	for _, o := range observers {
		sees(t, o, natstest.Soon, "web", "dead", "live")
		sees(t, o, natstest.Soon, "other", "dead")
	}
	events, err := observers[0].Watch(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	awaitEvent(t, events, "live", kvregistry.Registered)
	isReady(t, s, 0)
	dead.kill()
	killed := time.Now()
	inTime(t, s, 0, ttl+time.Second, func() error {
		for _, o := range observers {
			if web, other := ids(t, o, "web"), ids(t, o, "other"); !slices.Equal(web,
				[]string{"live"}) || len(other) > 0 {
				return fmt.Errorf("the services have %v and %v", web, other)
			}
		}
		return nil
	})
	t.Logf("it left both caches %s after the kill, TTL %s",
		time.Since(killed).Round(time.Millisecond), ttl)
	for end := time.Now().Add(2 * ttl); time.Now().Before(end); {
		for _, o := range observers {
			if got := ids(t, o, "web"); len(got) != 1 {
				t.Fatalf("the live process is gone: %v", got)
			}
		}
		// the loop checks that something does not happen
		time.Sleep(time.Millisecond)
	}
	_ = live
	// it may have been missing between two look-ups
	if told := toldOf(events, "live"); len(told) > 0 {
		t.Errorf("the live process was %v", told)
	}
}

// Invariant 2: observers are told of a graceful stop as such, without a wait for the TTL. Seen to
// fail with a Close that does not delete the registrations: they expired.
func TestGracefulStopIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	observer := open(t, s)
	p := start(t, plan{URL: s.URL(), TTL: time.Minute, Services: []kvregistry.Service{web("a"),
		web("b"), web("c")}})
	sees(t, observer, natstest.Soon, "web", "a", "b", "c")
	events, err := observer.Watch(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if e := <-events; e.Kind != kvregistry.Registered {
			t.Fatalf("the event is %s", e.Kind)
		}
	}
	_ = p.stdin.Close() // only now, because an instance that comes and goes unread makes no event
	for range 3 {
		if e := <-events; e.Kind != kvregistry.Unregistered {
			t.Fatalf("the event is %s, want unregistered", e.Kind)
		}
	}
	seen := time.Now()
	nc := s.Connect()
	ns, err := strconv.ParseInt(p.await("closed", natstest.Soon), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seen %s after Close returned", seen.Sub(time.Unix(0, ns)))
	natstest.Eventually(t, natstest.Soon,
		func() error { return noneLeft(keys(t, nc, "default", "lease.")) })
}

// Invariant 2: a process that is frozen for longer than a TTL leaves the caches, and returns when
// it goes on. Seen to fail with a keeper that never gives up a lease that it could not renew, and
// with registrations that are not written again after a loss.
func TestFrozenProcessComesBack(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	observer := open(t, s)
	p := start(t, plan{URL: s.URL(), Services: []kvregistry.Service{web("a")}})
	sees(t, observer, natstest.Soon, "web", "a")
	p.freeze()
	sees(t, observer, removal, "web")
	p.thaw()
	took := sees(t, observer, natstest.Soon, "web", "a")
	t.Logf("it was back after %s", took)
	p.await("lost", natstest.Soon)
}

// Invariant 2: in a tenant without a live process, the first newcomer is not shown the dead ones.
// Seen to fail with a Dead that returns nil.
func TestNewcomerFindsNoneOfTheDead(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	a := start(t, plan{URL: s.URL(), Services: []kvregistry.Service{web("a")}})
	b := start(t, plan{URL: s.URL(), Services: []kvregistry.Service{web("b")}})
	a.kill()
	b.kill()
	nc := s.Connect()
	// the TTL passes without a live process
	natstest.Eventually(t, natstest.Soon, func() error {
		return noneLeft(append(keys(t, nc, "default", "lease."),
			keys(t, nc, "default", "reaper.")...))
	})
	if left := keys(t, nc, "default", "svc."); len(left) != 2 {
		t.Fatalf("the test has to begin with two dead registrations, there are %v", left)
	}
	observer := open(t, s)
	_, err := observer.GetServices(t.Context(), "web")
	if !isErr(err, kvregistry.ErrNotFound) {
		t.Fatalf("the first look-up gave %v, want ErrNotFound", err)
	}
	names, err := observer.ServiceNames()
	if err != nil || len(names) != 0 {
		t.Fatalf("ServiceNames shows the dead: %v, %v", names, err)
	}
	// Later newcomers do not show the dead either, whether they reap or not.
	for _, opts := range [][]kvregistry.Option{nil, {kvregistry.WithoutReaping()}} {
		if _, err := open(t, s, opts...).GetService("web"); !isErr(err, kvregistry.ErrNotFound) {
			t.Errorf("a later newcomer's first look-up gave %v, want ErrNotFound", err)
		}
	}
	natstest.Eventually(t, natstest.Soon,
		func() error { return noneLeft(keys(t, nc, "default", "svc.")) })
	register(t, observer, web("c"))
	sees(t, observer, natstest.Soon, "web", "c")
}

// Invariant 2: while answers are held back, heartbeats go on over the same connection and for the
// same lease. A heartbeat does not wait for the answer to the one before. Seen to fail with at most
// one heartbeat under way.
func TestHeartbeatsWithoutAnswers(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	nc := natstest.Connect(t, l.URL())
	r := openOn(t, nc, kvregistry.TTL(6*time.Second), kvregistry.WithoutReaping())
	register(t, r, web("a"))
	sub, err := s.Connect().SubscribeSync("$KV.registry_default." + "lease." + inside.Lease(r).ID)
	must(t, err)
	l.blackhole(down)
	for n := range 4 { // one of them may have been answered before
		if _, err := sub.NextMsg(natstest.Soon); err != nil {
			t.Fatalf("heartbeat %d does not come: %v", n, err)
		}
	}
	if n := nc.Stats().Reconnects; n != 0 {
		t.Errorf("%d reconnects", n)
	}
	l.heal()
}
