package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 4, convergence: after a restart of the server an observer sees the next registration as
// soon as its connection is back. It does not wait until it notices silence. Seen to fail with a
// view that starts no new session when the connection comes back.
func TestRestartIsOverAtOnce(t *testing.T) {
	t.Parallel()
	for _, down := range []time.Duration{100 * time.Millisecond, time.Second, 6 * time.Second} {
		t.Run(down.String(), func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			long := kvregistry.TTL(time.Minute) // silence is then 11 s
			back := make(chan time.Time, 1)
			observer := openOn(t,
				s.Connect(nats.ReconnectHandler(func(*nats.Conn) { back <- time.Now() })), long)
			owner := open(t, s, long)
			register(t, owner, web("a"))
			sees(t, observer, natstest.Soon, "web", "a")
			s.Outage(down)
			returned := <-back
			register(t, owner, web("b"))
			// silence would be noticed at least 5 s later
			sees(t, observer, 4*time.Second, "web", "a", "b")
			t.Logf("down %s: the next registration was seen %s after the connection's return", down,
				time.Since(returned).Round(time.Millisecond))
		})
	}
}

// Invariants 4 and 7: a hundred clients that lose a server together recover with at most three
// sessions each, and at most one consumer per session. No consumer is left behind, and every cache
// is right. Seen to fail with views that take a tenth of a heartbeat for silence.
func TestReconnectStorm(t *testing.T) {
	t.Parallel()
	took, most := storm(t, 100)
	t.Logf("100 caches were right after %s, with %d sessions of one view at most",
		took.Round(time.Millisecond), most)
	// A session that can't begin within a second is given up, so a slow machine needs more.
	if most > 3+uint64(took/time.Second) && !raced {
		t.Errorf("a view had %d sessions", most)
	}
}

// storm makes many clients lose their server together. It returns how long after the server's
// return each cache was right, and the largest number of sessions that a view needed.
func storm(t *testing.T, clients int) (took time.Duration, most uint64) {
	t.Helper()
	s := natstest.Start(t)
	var observers []*kvregistry.Registry
	for range clients {
		observers = append(observers, open(t, s, kvregistry.WithoutReaping(),
			kvregistry.Timeout(time.Minute)))
	}
	owner := open(t, s)
	register(t, owner, web("a"))
	for _, o := range observers {
		sees(t, o, natstest.Soon, "web", "a")
	}
	s.Down()
	time.Sleep(time.Second) // the outage lasts so long
	s.Up()
	back := time.Now()
	register(t, owner, web("b"))
	for _, o := range observers {
		sees(t, o, natstest.Soon, "web", "a", "b")
	}
	took = time.Since(back)
	time.Sleep(2 * time.Second) // a late storm would come within this time
	natstest.Eventually(t, natstest.Soon, func() error {
		if list := views(natstest.Consumers(t, s.Connect(),
			"KV_registry_default")); len(list) != clients+1 {
			return fmt.Errorf("%d consumers of %d views", len(list), clients+1)
		}
		return nil
	})
	for _, o := range observers {
		most = max(most, o.Health().Resyncs)
	}
	return took, most
}

// Invariant 4: an owner that was fenced, and then looks up its service for the first time, does not
// see its own old instance. Seen to fail if keys stay in the cache when they are no longer watched.
func TestFencedOwnerKeepsNoGhost(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	fenced := make(chan struct{}, 1)
	first := open(t, s, kvregistry.OnFenced(func(kvregistry.Service) { fenced <- struct{}{} }))
	second := open(t, s)
	register(t, first, web("one"))
	natstest.Eventually(t, natstest.Soon, func() error { return countViews(t, s, 1) })
	un := register(t, second, web("one"))
	<-fenced
	time.Sleep(50 * time.Millisecond) // nothing shows when the first owner has forgotten it
	if err := un(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.GetService("web"); !isErr(err, kvregistry.ErrNotFound) {
		t.Errorf("it gave %v, want ErrNotFound", err)
	}
}

func countViews(t *testing.T, s *natstest.Server, want int) error {
	t.Helper()
	if got := views(natstest.Consumers(t, s.Connect(), "KV_registry_default")); len(got) < want {
		return fmt.Errorf("%d views, want %d", len(got), want)
	}
	return nil
}

// Invariant 4: a registration that is taken back while its write is under way does not appear in
// the bucket later. Seen to fail with a removal that relies on a read: it left 90 ghosts of 330.
func TestWriteUnderWayIsTakenBack(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	register(t, r, web("warm"))
	pending := 0
	for i := range 600 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i/2)*time.Microsecond)
		un, err := r.RegisterContext(ctx, kvregistry.Service{Name: "ghost", ID: fmt.Sprint(i),
			Address: "a:1"})
		cancel()
		if isErr(err, kvregistry.ErrPending) {
			pending++
		}
		if un != nil {
			if err := un(); err != nil {
				t.Fatal(err)
			}
		}
	}
	register(t, r, web("last")) // this write follows all earlier ones
	if left := keys(t, s.Connect(), "default", "svc.ghost."); len(left) > 0 || pending == 0 {
		t.Errorf("%d of %d pending registrations stayed: %v", len(left), pending, left)
	}
}
