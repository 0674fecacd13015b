package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// patient is for tests in which no lease is to be lost, on a machine that has other work.
func patient() kvregistry.Option { return kvregistry.TTL(20 * time.Second) }

// exclusive holds a name, within a time.
func exclusive(t testing.TB, r *kvregistry.Registry, name string, within time.Duration) *kvregistry.Hold {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	h, err := r.Exclusive(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// isOver waits until a hold is over, and checks why.
func isOver(t testing.TB, h *kvregistry.Hold, within time.Duration, why error) {
	t.Helper()
	select {
	case <-h.Done():
	case <-time.After(within):
		t.Fatalf("%s is still held after %s", h.Name(), within)
	}
	if err := h.Err(); !errors.Is(err, kvregistry.ErrNotHeld) || !errors.Is(err, why) {
		t.Errorf("it is over because of %v, want %v", err, why)
	}
}

// granted is what a call of Exclusive came to.
type granted struct {
	who int
	*kvregistry.Hold
	err error
	at  time.Time
}

// lineUp has somebody wait for a name, and returns when the place is taken.
func lineUp(t *testing.T, nc *nats.Conn, r *kvregistry.Registry, name string, who int, to chan<- granted) {
	t.Helper()
	before := len(keys(t, nc, kvregistry.DefaultTenant, "lock."+name+"."))
	go func() { // ends with the test's context
		h, err := r.Exclusive(t.Context(), name)
		to <- granted{who, h, err, time.Now()}
	}()
	natstest.Eventually(t, natstest.Soon, func() error {
		if n := len(keys(t, nc, kvregistry.DefaultTenant, "lock."+name+".")); n != before+1 {
			return fmt.Errorf("%d places are taken, want %d", n, before+1)
		}
		return nil
	})
}

// within waits for the next one who has it.
func within(t *testing.T, got <-chan granted, d time.Duration) granted {
	t.Helper()
	select {
	case n := <-got:
		must(t, n.err)
		return n
	case <-time.After(d):
		t.Fatalf("nobody has it within %s", d)
	}
	return granted{}
}

// Who waits gets the name in the order of coming, whatever process it waits in, and each with a higher token. Seen to fail with tickets that hold the name as
// soon as they are seen.
func TestExclusiveGoesInOrder(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	regs := []*kvregistry.Registry{open(t, s, patient()), open(t, s, patient()), open(t, s, patient())}
	last := exclusive(t, regs[0], "job", natstest.Soon)
	got := make(chan granted, 12)
	for i := range cap(got) {
		lineUp(t, nc, regs[i%len(regs)], "job", i, got)
	}
	for i := range cap(got) {
		if len(got) > 0 {
			t.Fatal("somebody holds what is held")
		}
		must(t, last.Release(t.Context()))
		next := within(t, got, natstest.Soon)
		if next.who != i || next.Token() <= last.Token() {
			t.Fatalf("turn %d: %d has it, with token %d after %d", i, next.who, next.Token(), last.Token())
		}
		last = next.Hold
	}
	must(t, last.Close())
	must(t, noneLeft(keys(t, nc, kvregistry.DefaultTenant, "lock.")))
}

// A release hands the name over at once: no time-out and no poll is waited for. Seen to fail with a line that is looked at every 200 ms.
func TestReleaseHandsOverAtOnce(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	regs := []*kvregistry.Registry{open(t, s, patient()), open(t, s, patient())}
	hold := exclusive(t, regs[0], "job", natstest.Soon)
	var took, line []time.Duration
	got := make(chan granted, 1)
	for i := range 100 {
		began := time.Now()
		lineUp(t, nc, regs[(i+1)%2], "job", i, got)
		line, began = append(line, time.Since(began)), time.Now()
		must(t, hold.Release(t.Context()))
		next := within(t, got, natstest.Soon)
		took, hold = append(took, next.at.Sub(began)), next.Hold
	}
	slices.Sort(took)
	slices.Sort(line)
	t.Logf("handed over within %s at the median, %s at the most; a place in line took %s", took[50], took[99], line[50])
	if took[50] > line[50]+50*time.Millisecond { // to take a place is several requests
		t.Error("that is not at once")
	}
}

// At most one of many goroutines in several processes' registries holds a name. Seen to fail with tickets that hold the name as soon as they are seen.
func TestExclusiveIsExclusive(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	regs := []*kvregistry.Registry{open(t, s, patient()), open(t, s, patient()), open(t, s, patient())}
	var holders, last uint64 // on purpose without a lock of its own: the race detector watches, too
	var wg sync.WaitGroup
	for i := range 9 {
		wg.Go(func() {
			for range 10 {
				h := exclusive(t, regs[i%len(regs)], "job", natstest.Soon)
				holders++
				if holders != 1 || h.Token() <= last || h.Err() != nil {
					t.Errorf("%d hold it, with token %d after %d: %v", holders, h.Token(), last, h.Err())
				}
				last = h.Token()
				holders--
				if err := h.Release(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Names have nothing to do with each other, nor with services, nor with those of another tenant.
func TestExclusiveNames(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r, other := open(t, s, patient()), open(t, s, kvregistry.Tenant("other"), patient())
	must(t, r.ObserveContext(t.Context(), kvregistry.Everything))
	for _, name := range []string{"a", "a.b", "a.*", "*", ">", " ", "网", strings.Repeat("x", 255)} {
		for _, r := range []*kvregistry.Registry{r, other} {
			if h := exclusive(t, r, name, natstest.Soon); h.Name() != name || h.Err() != nil {
				t.Errorf("%q: %q, %v", name, h.Name(), h.Err())
			}
		}
	}
	for _, name := range []string{"", "\xff", strings.Repeat("x", 256)} {
		if _, err := r.Exclusive(t.Context(), name); !errors.Is(err, kvregistry.ErrInvalidName) {
			t.Errorf("%.10q: %v", name, err)
		}
	}
	if names, err := r.ServiceNames(); err != nil || len(names) != 0 || r.Health().Skipped != 0 {
		t.Errorf("services: %q, %v; skipped %d", names, err, r.Health().Skipped)
	}
}

// ticketOf is the key by which a name is held.
func ticketOf(t *testing.T, nc *nats.Conn, name string) (first string) {
	t.Helper()
	var place uint64
	for _, key := range keys(t, nc, kvregistry.DefaultTenant, "lock."+name+".") {
		e, err := bucket(t, nc, kvregistry.DefaultTenant).Get(t.Context(), key)
		must(t, err)
		if place == 0 || e.Revision() < place {
			first, place = key, e.Revision()
		}
	}
	return first
}

// Each way in which a hold ends closes Done, says why, and lets the next one in.
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
		"registry-closed": {func(r *kvregistry.Registry, _ *kvregistry.Hold) error { return r.Close() }, kvregistry.ErrClosed},
		"lease-sealed": {func(r *kvregistry.Registry, _ *kvregistry.Hold) error {
			return bucket(t, nc, kvregistry.DefaultTenant).Purge(t.Context(), "lease."+inside.Lease(r).ID)
		}, kvregistry.ErrNotHeld}, // its lease is lost, or a reaper purged its key first
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
				t.Error("the next one does not get it")
			}
		})
	}
}

// Health tells what is held, and what is waited for: since when, and with which token. Seen to fail with tickets that are listed until their key is gone.
func TestHoldsInHealth(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	r, other := openOn(t, natstest.Connect(t, l.URL()), patient()), open(t, s, patient())
	began := time.Now()
	holds, elsewhere := exclusive(t, r, "b", natstest.Soon), exclusive(t, other, "a", natstest.Soon)
	got := make(chan granted, 1)
	lineUp(t, nc, r, "a", 0, got)
	list := r.Health().Holds
	if len(list) != 2 || list[0].Name != "a" || list[0].Token != 0 || list[1].Name != "b" || list[1].Token != holds.Token() {
		t.Errorf("%+v, want that a is waited for and b is held with token %d", list, holds.Token())
	}
	for _, h := range list {
		if h.Since.Before(began) || time.Since(h.Since) < 0 {
			t.Errorf("%+v, which began after %s", h, began)
		}
	}
	must(t, elsewhere.Close())
	next := within(t, got, natstest.Soon)
	if list = r.Health().Holds; len(list) != 2 || list[0].Token != next.Token() {
		t.Errorf("%+v, want that a is held with token %d", list, next.Token())
	}
	l.blackhole(up, down)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := next.Release(ctx); !errors.Is(err, kvregistry.ErrPending) {
		t.Errorf("released while NATS is away: %v", err)
	}
	if list = r.Health().Holds; len(list) != 1 || list[0].Name != "b" {
		t.Errorf("%+v, want that b is held", list)
	}
	l.heal()
	must(t, r.Close())
	if list = r.Health().Holds; len(list) != 0 {
		t.Errorf("closed, with %+v", list)
	}
}

// A killed process's hold ends within its TTL and a second, be it in front or in the line. Seen to fail with reapers that look at registrations only.
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
			return errors.New("nobody holds it")
		}
		return nil
	})
	n := <-got
	must(t, n.err)
	t.Logf("held by the next one %s after the kill, TTL %s", n.at.Sub(killed).Round(time.Millisecond), ttl)
}

// A holder that is cut off stops before the server ends its lease, and the next one begins after that; when the holder is back it does not hold the name again by itself. Seen to
// fail with a hold that ends when the keeper says that its lease is lost, and with one that is certain of a TTL and a quarter.
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
					t.Fatalf("it held on for %s after its lease's time", late)
				}
				if len(got) > 0 && h.Err() == nil {
					t.Fatal("two hold it")
				}
				time.Sleep(time.Millisecond) // between two looks
			}
			over := time.Now()
			isOver(t, h, natstest.Soon, kvregistry.ErrLeaseLost)
			n := within(t, got, natstest.Soon)
			t.Logf("over %s after the cut, held by the next one %s after that", over.Sub(cut).Round(time.Millisecond), n.at.Sub(over).Round(time.Millisecond))
			l.heal()
			again := make(chan granted, 1)
			go func() { // ends with the test's context
				h, err := away.Exclusive(t.Context(), how)
				again <- granted{0, h, err, time.Now()}
			}()
			select {
			case a := <-again:
				t.Fatalf("held twice: %v", a.err)
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

// A lease's time is counted from when a heartbeat was begun, which is before the server counts, however slow the connection: what is believed ends before the server's time does. Seen to fail with a
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
	for range 2 { // one may have been begun before
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
	if late := own.Until().Sub(e.Created().Add(ttl - ttl/8)); late > 0 { // the server's clock is this machine's
		t.Errorf("it is counted from %s after the server has begun", late)
	}
	l.heal()
}

// Bytes that are no ticket are in nobody's way, and a ticket whose lease never was is only until it is swept. Seen to fail with lines in which every key has a place.
func TestLineOfOddKeys(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	kv := bucket(t, s.Connect(), kvregistry.DefaultTenant)
	for i, value := range []string{"", "\xff", "{}", "null", `{"format":1}`, `{"format":1,"lease":"a.b"}`, `{"format":2}`, strings.Repeat("x", 10_000)} {
		_, err := kv.PutString(t.Context(), fmt.Sprintf("lock.job.%d", i), value)
		must(t, err)
	}
	must(t, exclusive(t, r, "job", natstest.Soon).Close())
	_, err := kv.PutString(t.Context(), "lock.job.dead", `{"format":1,"lease":"NEVER"}`)
	must(t, err)
	must(t, exclusive(t, r, "job", natstest.Soon).Close())
}

// What a process of a newer version left ends with its lease, like anything else: a ticket that
// locked a name, and a registration. Seen to fail with reapers that leave other formats alone.
func TestNewerFormatEndsWithItsLease(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	nc := s.Connect()
	lives := openOn(t, nc)
	register(t, lives, web("a"))
	kv := bucket(t, nc, kvregistry.DefaultTenant)
	for key, value := range map[string]string{
		"lock.job.dead": `{"place":1,"lease":"DEAD1","owner":{"id":7},"format":2}`,
		"svc.web.dead":  `{"format":3.0,"lease":"DEAD2","instances":[]}`,
		"svc.web.lives": `{"format":2,"lease":"` + leaseOf(lives) + `"}`,
	} {
		_, err := kv.PutString(t.Context(), key, value)
		must(t, err)
	}
	must(t, exclusive(t, r, "job", 30*time.Second).Close())
	natstest.Eventually(t, 30*time.Second, func() error {
		if _, err := kv.Get(t.Context(), "svc.web.dead"); err == nil {
			return errStill
		}
		return nil
	})
	if _, err := kv.Get(t.Context(), "svc.web.lives"); err != nil {
		t.Errorf("one whose lease lives: %v", err)
	}
}

// A ticket that its process has taken back and that stands in line again, as a killed server can have it, is removed again. Seen to fail with lines that do not look for strays: the process's
// living lease kept it there for ever.
func TestTicketThatComesBack(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	r, other := open(t, s, patient()), open(t, s, patient())
	h := exclusive(t, r, "job", natstest.Soon)
	kv := bucket(t, nc, kvregistry.DefaultTenant)
	key := ticketOf(t, nc, "job")
	e, err := kv.Get(t.Context(), key)
	must(t, err)
	must(t, h.Close())
	_, err = kv.Put(t.Context(), key, e.Value())
	must(t, err)
	must(t, exclusive(t, other, "job", natstest.Soon).Close())
}

// Whose permission to remove its ticket is taken away is told, and its ticket goes as soon as that is given back: its process's lease lives, so nobody else would end it. Seen to fail with a refusal that
// is the end of it: the line stood still for as long as that process lived.
func TestTicketThatMayNotBeRemoved(t *testing.T) {
	t.Parallel()
	users := func(perms string) string {
		return fmt.Sprintf("authorization { users: [ { user: u, password: p, permissions: { %s } }, { user: admin, password: p } ] }\n", perms)
	}
	const all = `publish: ">", subscribe: ">"`
	s := startReloading(t, users(all))
	admin := s.Connect(nats.UserInfo("admin", "p"))
	r, next := openOn(t, s.Connect(nats.UserInfo("u", "p")), patient()), openOn(t, admin, patient())
	h := exclusive(t, r, "job", natstest.Soon)
	got := make(chan granted, 1)
	lineUp(t, admin, next, "job", 0, got)
	s.reload(users(`publish: { deny: "$KV.registry_default.lock.>" }`))
	if err := h.Release(t.Context()); !errors.Is(err, kvregistry.ErrPermission) {
		t.Errorf("released without permission: %v", err)
	}
	s.reload(users(all))
	within(t, got, tenant.RefusedTime+natstest.Soon)
}

// Who gives up waiting leaves no place behind, be it before the key is written, while its write has no answer, or in the line. Seen to fail with a ticket that is not taken back.
func TestWaitThatIsGivenUp(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	holder, waits := open(t, s, patient()), openOn(t, natstest.Connect(t, l.URL()), patient())
	h := exclusive(t, holder, "job", natstest.Soon)
	give := func(within time.Duration) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		if _, err := waits.Exclusive(ctx, "job"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
	give(300 * time.Millisecond)
	l.blackhole(down)
	give(300 * time.Millisecond)
	l.heal()
	natstest.Eventually(t, natstest.Soon, func() error {
		if left := keys(t, nc, kvregistry.DefaultTenant, "lock."); len(left) != 1 {
			return noneLeft(left)
		}
		return nil
	})
	must(t, h.Close())
	must(t, exclusive(t, waits, "job", natstest.Soon).Close())
}

// A bucket that is deleted and made anew ends every hold. Those who waited then wait for a TTL, in which a holder that is cut off finds out. Seen to fail
// without that wait.
func TestHoldEndsWithTheBucket(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	longer := kvregistry.TTL(6 * time.Second) // than a view takes to see that the bucket is another
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
			t.Fatal("two hold it")
		}
		time.Sleep(time.Millisecond) // between two looks
	}
	select {
	case n := <-got:
		must(t, n.err)
	case <-time.After(natstest.Soon):
		t.Error("nobody holds it in the new bucket")
	}
}

// A process that knew the bucket before, and was in no line of it, waits too. Seen to fail with lines whose own view alone tells them.
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
	register(t, open(t, s, longer), web("a")) // in the new one
	sees(t, next, natstest.Soon, "web", "a")
	got := make(chan granted, 1)
	go func() { // ends with the test's context
		h, err := next.Exclusive(t.Context(), "job")
		got <- granted{0, h, err, time.Now()}
	}()
	for h.Err() == nil {
		if len(got) > 0 && h.Err() == nil {
			t.Fatal("two hold it")
		}
		time.Sleep(time.Millisecond) // between two looks
	}
	within(t, got, natstest.Soon)
}

// What was held leaves no key, no consumer and no tombstone for long. Seen to fail with a tombstone as registrations have it.
func TestHoldsLeaveNothing(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	r := open(t, s, patient())
	for i := range 50 {
		must(t, exclusive(t, r, fmt.Sprintf("job-%d", i%5), natstest.Soon).Close())
	}
	natstest.Eventually(t, natstest.Soon, func() error { // a second one reads a new name, for a moment
		if n := len(views(natstest.Consumers(t, nc, "KV_registry_default"))); n != 1 {
			return fmt.Errorf("%d consumers for 5 names, want 1", n)
		}
		return nil
	})
	must(t, noneLeft(keys(t, nc, kvregistry.DefaultTenant, "lock.")))
	js, err := jetstream.New(nc)
	must(t, err)
	stream, err := js.Stream(t.Context(), "KV_registry_default")
	must(t, err)
	last, err := stream.GetLastMsgForSubject(t.Context(), "$KV.registry_default.lock.job-4.*")
	must(t, err)
	if got := last.Header.Get("Nats-TTL"); got != "10s" {
		t.Errorf("a ticket's end is kept for %q", got)
	}
	waits := make(chan granted, 1)
	other := open(t, s, patient())
	h := exclusive(t, other, "job", natstest.Soon)
	lineUp(t, nc, r, "job", 0, waits)
	must(t, r.Close())
	if w := <-waits; !errors.Is(w.err, kvregistry.ErrClosed) {
		t.Errorf("who waited in a registry that was closed got %v", w.err)
	}
	must(t, h.Close())
	must(t, other.Close())
	must(t, noneLeft(keys(t, nc, kvregistry.DefaultTenant, "lock.")))
	natstest.Eventually(t, natstest.Soon, func() error { return noneLeft(views(natstest.Consumers(t, nc, "KV_registry_default"))) })
	if _, err := r.Exclusive(t.Context(), "job"); !errors.Is(err, kvregistry.ErrClosed) {
		t.Errorf("a closed registry: %v", err)
	}
}
