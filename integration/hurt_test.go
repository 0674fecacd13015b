package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// Invariants 4 and 7: a hundred clients that lose one server together come back with at most three sessions each, of which
// each makes one consumer at most; none is left behind, and every cache is right. Seen to fail with views that
// take a tenth of a heartbeat for silence.
func TestReconnectStorm(t *testing.T) {
	t.Parallel()
	took, most := storm(t, 100)
	t.Logf("100 caches were right after %s, with %d sessions of one view at most", took.Round(time.Millisecond), most)
	// A session that can't begin within a second is given up: on a slow machine there are more.
	if most > 3+uint64(took/time.Second) && !raced {
		t.Errorf("a view was made anew %d times", most)
	}
}

// storm has many clients lose their server together. It returns how long after the server's return each cache was right,
// and how many sessions a view needed at most.
func storm(t *testing.T, clients int) (took time.Duration, most uint64) {
	t.Helper()
	s := natstest.Start(t)
	var observers []*kvregistry.Registry
	for range clients {
		observers = append(observers, open(t, s, kvregistry.WithoutReaping(), kvregistry.Timeout(time.Minute)))
	}
	owner := open(t, s)
	register(t, owner, web("a"))
	for _, o := range observers {
		sees(t, o, natstest.Soon, "web", "a")
	}
	s.Down()
	time.Sleep(time.Second) // the outage itself
	s.Up()
	back := time.Now()
	register(t, owner, web("b"))
	for _, o := range observers {
		sees(t, o, natstest.Soon, "web", "a", "b")
	}
	took = time.Since(back)
	time.Sleep(2 * time.Second) // in which a storm that is only late would come
	natstest.Eventually(t, natstest.Soon, func() error {
		if list := views(natstest.Consumers(t, s.Connect(), "KV_registry_default")); len(list) != clients+1 {
			return fmt.Errorf("%d consumers of %d views", len(list), clients+1)
		}
		return nil
	})
	for _, o := range observers {
		most = max(most, o.Health().Resyncs)
	}
	return took, most
}

// Invariants 4, 6 and 7: a function given to OnEvent that blocks while 10,000 changes come holds up no look-up, and sees each
// instance's last state in the end, changes coalesced.
func TestSlowConsumer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	block := make(chan struct{})
	var mu sync.Mutex
	told, last := 0, map[string]string{}
	observer := open(t, s, kvregistry.OnEvent(func(e kvregistry.Event) {
		<-block
		mu.Lock()
		defer mu.Unlock()
		told++
		last[e.Service.ID] = e.Service.Metadata["n"]
	}))
	owner := open(t, s)
	const instances, rounds = 20, 500
	sees(t, observer, natstest.Soon, "web")
	var wg sync.WaitGroup
	for i := range instances {
		one := web(fmt.Sprintf("%02d", i))
		wg.Go(func() {
			register(t, owner, one)
			for n := range rounds {
				one.Metadata = map[string]string{"n": fmt.Sprint(n)}
				if err := owner.Update(one); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	natstest.Eventually(t, natstest.Soon, func() error {
		snap, err := observer.Snapshot("web")
		if err != nil {
			return err
		}
		for one := range snap.All() {
			if one.Metadata["n"] != fmt.Sprint(rounds-1) {
				return fmt.Errorf("the cache has %s at change %s", one.ID, one.Metadata["n"])
			}
		}
		return nil
	})
	close(block)
	natstest.Eventually(t, natstest.Soon, func() error {
		mu.Lock()
		defer mu.Unlock()
		for i := range instances {
			if n := last[fmt.Sprintf("%02d", i)]; n != fmt.Sprint(rounds-1) {
				return fmt.Errorf("the last event of %d was of change %s", i, n)
			}
		}
		return nil
	})
	t.Logf("%d events of %d changes", told, instances*rounds)
	if told > instances*10 {
		t.Errorf("%d events for %d instances: nothing was coalesced", told, instances)
	}
}

// Invariants 4 and 5: a user whose permissions are taken away while connected goes on answering from memory, does not load
// the server with what is refused, and is right again when they are given back. That it may not subscribe to its answers
// any more it can't mend but by another connection, every 10 s at most; seen to fail with a Revive that knows of dead
// connections alone.
func TestPermissionRevoked(t *testing.T) {
	t.Parallel()
	for name, perms := range map[string]string{
		"publish":   `publish: { deny: ["$JS.>", "$KV.>"] }`,
		"subscribe": `subscribe: { deny: ["_INBOX.>"] }`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			revoked(t, perms)
		})
	}
}

func revoked(t *testing.T, perms string) {
	users := func(perms string) string {
		return fmt.Sprintf("authorization { users: [ { user: u, password: p, permissions: { %s } }, { user: admin, password: p } ] }\n", perms)
	}
	const all = `publish: ">", subscribe: ">"`
	s := startReloading(t, users(all))
	observer := openOn(t, s.Connect(nats.UserInfo("u", "p")), kvregistry.ForceReconnect())
	owner := openOn(t, s.Connect(nats.UserInfo("admin", "p")))
	register(t, owner, web("a"))
	sees(t, observer, natstest.Soon, "web", "a")
	s.reload(users(perms))
	deleteViews(t, s.Connect(nats.UserInfo("admin", "p"))) // or it would see changes all the same
	register(t, owner, web("b"))
	before := observer.Health().Resyncs
	end := time.Now().Add(2 * ttl)
	for time.Now().Before(end) {
		if got := ids(t, observer, "web"); len(got) == 0 {
			t.Fatal("a look-up that was answered before is not any more")
		}
		time.Sleep(10 * time.Millisecond) // between two look-ups
	}
	if h := observer.Health(); h.OK() || h.Resyncs-before > 12 {
		t.Errorf("while what it needs is refused: %+v, with %d resyncs before", h, before)
	}
	s.reload(users(all))
	took := sees(t, observer, 10*time.Second+natstest.Soon, "web", "a", "b")
	t.Logf("right again %s after the permissions were given back", took.Round(time.Millisecond))
}

func deleteViews(t *testing.T, nc *nats.Conn) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range views(natstest.Consumers(t, nc, "KV_registry_default")) {
		if err := js.DeleteConsumer(t.Context(), "KV_registry_default", name); err != nil {
			t.Fatal(err)
		}
	}
}

// Invariants 4, 5 and 7: where a bucket allows no further consumer, a look-up says that it can't know, and finds out when it can;
// it is tried again a few times a second at most.
func TestMaxConsumersReached(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	first := open(t, s)
	register(t, first, web("a"))
	stream, err := js.Stream(t.Context(), "KV_registry_default")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), cfg.Name); err != nil {
		t.Fatal(err)
	}
	cfg.MaxConsumers = 2
	natstest.Eventually(t, natstest.Soon, func() error { // see TestTenantIsMadeAnewAtOnce of package tenant
		stream, err = js.CreateStream(t.Context(), cfg)
		return err
	})
	began := time.Now()
	observer := open(t, s, kvregistry.WithoutReaping(), kvregistry.Timeout(300*time.Millisecond))
	for _, name := range []string{"one", "two"} {
		natstest.Eventually(t, natstest.Soon, func() error { // the observer's look for the dead, as it comes, has a consumer for a moment
			_, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: name})
			return err
		})
	}
	if _, err := observer.GetService("web"); !isErr(err, kvregistry.ErrUnavailable) || !strings.Contains(err.Error(), "consumers limit") {
		t.Errorf("got %v, want ErrUnavailable and why", err)
	}
	time.Sleep(ttl) // in which it may try again, but not over and over
	if h, most := observer.Health(), 12+2*uint64(time.Since(began)/time.Second); h.OK() || h.Resyncs > most {
		t.Errorf("without a consumer, after %s: %+v", time.Since(began), h)
	}
	if err := stream.DeleteConsumer(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if _, err := observer.GetService("web"); !isErr(err, kvregistry.ErrNotFound) {
			return errors.Join(errors.New("it does not find out"), err)
		}
		return nil
	})
}

// Invariant 2: a process that holds the first slot and is frozen keeps nobody's dead: the second
// slot's holder purges them, and when the first one is thawed it harms nobody. Seen to fail with
// one slot.
func TestFrozenReaper(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	holder := start(t, plan{URL: s.URL()})
	inSlot(t, s, 0)
	observer := open(t, s)
	inSlot(t, s, 1)
	register(t, observer, web("alive"))
	p := start(t, plan{URL: s.URL(), Services: []kvService{web("a")}})
	sees(t, observer, natstest.Soon, "web", "a", "alive")
	isReady(t, s, 1)
	holder.freeze()
	p.kill()
	killed := time.Now()
	inTime(t, s, 1, ttl+1500*time.Millisecond, func() error {
		if got := ids(t, observer, "web"); !slices.Equal(got, []string{"alive"}) {
			return fmt.Errorf("seen are %v", got)
		}
		return nil
	})
	t.Logf("out %s after the kill", time.Since(killed).Round(time.Millisecond))
	holder.thaw()
	for end := time.Now().Add(2 * ttl); time.Now().Before(end); time.Sleep(10 * time.Millisecond) { // what is lived through
		if got := ids(t, observer, "web"); len(got) != 1 {
			t.Fatalf("seen are %v", got)
		}
	}
}

// inSlot waits until a process holds a reaper slot.
func inSlot(t *testing.T, s *natstest.Server, slot int) {
	t.Helper()
	kv := bucket(t, s.Connect(), "default")
	natstest.Eventually(t, natstest.Soon, func() error {
		_, err := kv.Get(t.Context(), tenant.SlotKey(slot))
		return err
	})
}

// Invariant 4: a connection that is dead without a word is made again, in whichever direction it is
// dead, where NATS's own pings take minutes; if the user wants that, and left alone otherwise. Seen to fail without Revive.
func TestDeadConnectionIsMadeAgain(t *testing.T) {
	t.Parallel()
	for trial, name := range []string{"both ways", "towards the server", "from the server"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, took := range blackholeFigure(t, trial) { // 30 s at most
				t.Logf("connected again after %s", took.Round(time.Millisecond))
			}
		})
	}
	t.Run("left alone", func(t *testing.T) {
		t.Parallel()
		s := natstest.Start(t)
		l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
		nc := natstest.Connect(t, l.URL())
		r := openOn(t, nc)
		register(t, r, web("a"))
		l.blackhole(up, down)
		natstest.Eventually(t, natstest.Soon, func() error {
			if r.Health().Lease != kvregistry.LeaseGone {
				return errors.New("the lease is not lost")
			}
			return nil
		})
		time.Sleep(ttl) // in which it is not made again
		if !nc.IsConnected() || nc.Stats().Reconnects != 0 {
			t.Error("the connection was made again")
		}
		l.cut()
	})
}
