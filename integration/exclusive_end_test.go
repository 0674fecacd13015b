package integration

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// isOver waits until a hold has ended, and checks the reason.
func isOver(t testing.TB, h *kvregistry.Hold, within time.Duration, why error) {
	t.Helper()
	select {
	case <-h.Done():
	case <-time.After(within):
		t.Fatalf("%s is still held after %s", h.Name(), within)
	}
	if err := h.Err(); !errors.Is(err, kvregistry.ErrNotHeld) || !errors.Is(err, why) {
		t.Errorf("the hold ended with %v, want %v", err, why)
	}
}

// Each way in which a hold ends closes Done, gives the reason, and lets the next process in.
func TestHoldEnds(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	next := open(t, s)
	for name, how := range map[string]struct {
		end func(r *kvregistry.Registry, h *kvregistry.Hold) error
		why error
	}{
		"released": {func(_ *kvregistry.Registry, h *kvregistry.Hold) error {
			return errors.Join(h.Release(t.Context()), h.Release(t.Context()), h.Close())
		}, kvregistry.ErrNotHeld},
		"registry-closed": {func(r *kvregistry.Registry,
			_ *kvregistry.Hold) error {
			return r.Close()
		}, kvregistry.ErrClosed},
		"lease-sealed": {func(r *kvregistry.Registry, _ *kvregistry.Hold) error {
			return bucket(t, nc, kvregistry.DefaultTenant).Purge(t.Context(),
				"lease."+inside.Lease(r).ID)
		}, kvregistry.ErrNotHeld}, // its lease is lost, or a reaper has purged its key before
		"key-removed": {func(*kvregistry.Registry, *kvregistry.Hold) error {
			kv := bucket(t, nc, kvregistry.DefaultTenant)
			return kv.Delete(t.Context(), ticketOf(t, nc, "key-removed"))
		}, kvregistry.ErrNotHeld},
		"key-overwritten": {func(*kvregistry.Registry, *kvregistry.Hold) error {
			kv := bucket(t, nc, kvregistry.DefaultTenant)
			_, err := kv.PutString(t.Context(), ticketOf(t, nc, "key-overwritten"), "{}")
			return err
		}, kvregistry.ErrNotHeld},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, s)
			h := exclusive(t, r, name, natstest.Soon)
			got := make(chan granted, 1)
			lineUp(t, nc, next, name, 0, got)
			must(t, how.end(r, h))
			isOver(t, h, natstest.Soon, how.why)
			select {
			case n := <-got:
				if n.err != nil || n.Token() <= h.Token() {
					t.Errorf("%v, token %d after %d", n.err, n.Token(), h.Token())
				}
			case <-time.After(natstest.Soon):
				t.Error("the next one does not get the name")
			}
		})
	}
}

// A hold's context ends with the hold, and says why, or with the context that it was made of, which
// leaves the hold alone. Seen to fail without the hold's part, and without the cause.
func TestContextOfAHold(t *testing.T) {
	t.Parallel()
	r := open(t, natstest.Start(t))
	h := exclusive(t, r, "job", natstest.Soon)
	parent, end := context.WithCancel(t.Context())
	child, free := h.Context(parent)
	defer free()
	whole, freeToo := h.Context(t.Context())
	defer freeToo()
	own, freeNow := h.Context(t.Context())
	freeNow()
	end()
	for _, ctx := range []context.Context{child, own} {
		<-ctx.Done()
		if cause := context.Cause(ctx); cause != context.Canceled || h.Err() != nil {
			t.Errorf("it ended with %v, and the hold with %v", cause, h.Err())
		}
	}
	if err := whole.Err(); err != nil {
		t.Error("while the name is held:", err)
	}
	must(t, h.Close())
	select {
	case <-whole.Done():
	case <-time.After(natstest.Soon):
		t.Fatal("it goes on without the hold")
	}
	if cause := context.Cause(whole); !isErr(cause, kvregistry.ErrNotHeld) {
		t.Error(cause)
	}
}

// A killed process's hold ends within its TTL + 1 s, and so does its place in line. Seen to fail
// with reapers that look at registrations only.
func TestHoldOfAKilledProcess(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	next := open(t, s)
	isReady(t, s, 0)
	dead := start(t, plan{URL: s.URL(), Hold: "job"})
	got := make(chan granted, 1)
	lineUp(t, nc, next, "job", 0, got)
	dead.kill()
	killed := time.Now()
	inTime(t, s, 0, ttl+time.Second, func() error {
		if len(got) == 0 {
			return errors.New("no process holds the name")
		}
		return nil
	})
	n := <-got
	must(t, n.err)
	t.Logf("the next one holds the name %s after the kill, TTL %s",
		n.at.Sub(killed).Round(time.Millisecond), ttl)
}

// A holder that is cut off stops before the server ends its lease, and the next holder begins after
// that. When the first is back, it does not hold the name again by itself. Seen to fail with a hold
// that ends when the keeper reports its lease lost, and with one that trusts its lease for a TTL
// and a quarter.
func TestHolderThatIsCutOff(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	for how, hurt := range map[string]func(l *link){
		"cut":         (*link).cut,
		"black-holed": func(l *link) { l.blackhole(up, down) },
		"deaf":        func(l *link) { l.blackhole(down) },
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
			away, next := openOn(t, natstest.Connect(t, l.URL())), open(t, s)
			h := exclusive(t, away, how, natstest.Soon)
			got := make(chan granted, 1)
			lineUp(t, nc, next, how, 0, got)
			own := inside.Lease(away)
			hurt(l)
			cut := time.Now()
			for at := time.Now(); h.Err() == nil; at = time.Now() {
				if late := at.Sub(own.Until()); late > 0 {
					t.Fatalf("it believed to hold the name for %s after its lease's end", late)
				}
				if len(got) > 0 && h.Err() == nil {
					t.Fatal("two processes hold the name")
				}
				time.Sleep(time.Millisecond) // between two checks
			}
			over := time.Now()
			isOver(t, h, natstest.Soon, kvregistry.ErrLeaseLost)
			n := within(t, got, natstest.Soon)
			t.Logf("the hold ended %s after the cut, the next one began %s after that",
				over.Sub(cut).Round(time.Millisecond), n.at.Sub(over).Round(time.Millisecond))
			l.heal()
			again := make(chan granted, 1)
			go func() { // ends with the test's context
				h, err := away.Exclusive(t.Context(), how)
				again <- granted{0, h, err, time.Now()}
			}()
			select {
			case a := <-again:
				t.Fatalf("the name is held twice: %v", a.err)
			case <-time.After(ttl):
			}
			must(t, n.Release(t.Context()))
			a := within(t, again, natstest.Soon)
			if a.Token() <= n.Token() || h.Err() == nil {
				t.Errorf("token %d after %d; the first hold: %v", a.Token(), n.Token(), h.Err())
			}
		})
	}
}

// A lease's time is counted from the beginning of a heartbeat, before the server counts, on a
// connection of any speed. A holder so stops before the server's time ends. Seen to fail with a
// heartbeat that counts from its answer.
func TestHoldCountsFromTheHeartbeatsBeginning(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	const ttl = 6 * time.Second
	r := openOn(t, natstest.Connect(t, l.URL()), kvregistry.TTL(ttl))
	exclusive(t, r, "job", natstest.Soon)
	own := inside.Lease(r)
	l.delay(400)
	for range 2 { // one of them may have begun earlier
		was := own.Until()
		natstest.Eventually(t, natstest.Soon, func() error {
			if own.Until().Equal(was) {
				return errors.New("no heartbeat was acknowledged")
			}
			return nil
		})
	}
	e, err := bucket(t, s.Connect(), kvregistry.DefaultTenant).Get(t.Context(), "lease."+own.ID)
	must(t, err)
	// the server has this machine's clock
	if late := own.Until().Sub(e.Created().Add(ttl - ttl/8)); late > 0 {
		t.Errorf("the lease is counted from %s after the server's beginning", late)
	}
	l.heal()
}

// Every hold ends if the bucket is deleted and recreated. Processes in line then wait for a TTL, so
// that a holder that is cut off can notice. Seen to fail without that wait.
func TestHoldEndsWithTheBucket(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	longer := kvregistry.TTL(6 * time.Second) // longer than a view takes to notice the new bucket
	away, next := openOn(t, natstest.Connect(t, l.URL()), longer), open(t, s, longer)
	h := exclusive(t, away, "job", natstest.Soon)
	got := make(chan granted, 1)
	lineUp(t, nc, next, "job", 0, got)
	l.blackhole(up, down)
	js, err := jetstream.New(nc)
	must(t, err)
	must(t, js.DeleteKeyValue(t.Context(), "registry_default"))
	for h.Err() == nil {
		if len(got) > 0 && h.Err() == nil {
			t.Fatal("two processes hold the name")
		}
		time.Sleep(time.Millisecond) // between two checks
	}
	select {
	case n := <-got:
		must(t, n.err)
	case <-time.After(natstest.Soon):
		t.Error("no process holds the name in the new bucket")
	}
}

// A process that used the deleted bucket waits for a TTL too, even if it was in no line. Seen to
// fail with lines that learn of it by their own view alone.
func TestHoldEndsWithTheBucketForOthers(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	longer := kvregistry.TTL(8 * time.Second)
	away, next := openOn(t, natstest.Connect(t, l.URL()), longer), open(t, s, longer)
	must(t, next.ObserveContext(t.Context(), "web"))
	h := exclusive(t, away, "job", natstest.Soon)
	l.blackhole(up, down)
	js, err := jetstream.New(nc)
	must(t, err)
	must(t, js.DeleteKeyValue(t.Context(), "registry_default"))
	register(t, open(t, s, longer), web("a")) // in the new bucket
	sees(t, next, natstest.Soon, "web", "a")
	got := make(chan granted, 1)
	go func() { // ends with the test's context
		h, err := next.Exclusive(t.Context(), "job")
		got <- granted{0, h, err, time.Now()}
	}()
	for h.Err() == nil {
		if len(got) > 0 && h.Err() == nil {
			t.Fatal("two processes hold the name")
		}
		time.Sleep(time.Millisecond) // between two checks
	}
	within(t, got, natstest.Soon)
}
