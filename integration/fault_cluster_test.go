package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariants 2, 3, 4 and 5 on a cluster of three servers on loopback, where replicas put them at
// risk. One cluster serves all subtests, in order, because a cluster takes seconds to start.
func TestCluster(t *testing.T) {
	t.Parallel()
	servers := natstest.Cluster(t)
	all := natstest.URLs(servers)
	connect := func(t *testing.T, opts ...kvregistry.Option) *kvregistry.Registry {
		return openOn(t, natstest.Connect(t, all),
			append([]kvregistry.Option{kvregistry.TTL(4 * time.Second),
				kvregistry.Timeout(natstest.Soon)}, opts...)...)
	}
	t.Run("three replicas unless set", func(t *testing.T) {
		connect(t)
		connect(t, kvregistry.Tenant("one"), kvregistry.Replicas(1))
		js, err := jetstream.New(natstest.Connect(t, all))
		if err != nil {
			t.Fatal(err)
		}
		for tenant, want := range map[string]int{"default": 3, "one": 1} {
			natstest.Eventually(t, natstest.Soon, func() error { // a cluster may lose a request
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				s, err := js.Stream(ctx, "KV_registry_"+tenant)
				if err == nil && s.CachedInfo().Config.Replicas != want {
					err = fmt.Errorf("%d replicas, want %d", s.CachedInfo().Config.Replicas, want)
				}
				return err
			})
		}
	})
	// A first look-up shows what was acknowledged before, from any replica. On loopback replicas
	// follow so closely that this was not seen to fail. The tests of the watcher have a replica
	// that lags.
	t.Run("first look-up after an acknowledged Register", func(t *testing.T) {
		owner := connect(t)
		for i := range 60 {
			name := fmt.Sprintf("s%d", i)
			register(t, owner, kvregistry.Service{ID: "1", Name: name, Address: "h:1"})
			if i%3 == 0 {
				observer := openOn(t, natstest.Connect(t, servers[i%2].URL()))
				if got := ids(t, observer, name); len(got) != 1 {
					t.Errorf("round %d: a first look-up missed an acknowledged registration", i)
				}
				_ = observer.Close()
			}
		}
	})
	t.Run("the newest registration wins", func(t *testing.T) {
		fenced := make(chan struct{}, 1)
		first := connect(t, kvregistry.OnFenced(func(kvregistry.Service) { fenced <- struct{}{} }))
		second := connect(t)
		register(t, first, web("one"))
		register(t, second, kvregistry.Service{ID: "one", Name: "web", Address: "second:1"})
		select {
		case <-fenced:
		case <-time.After(natstest.Soon):
			t.Error("the first owner was not told")
		}
		if err := wantAddress(first, "second:1"); err != nil {
			t.Error(err)
		}
	})
	// Invariants 2, 4 and 5: the bucket's leader is killed and comes back. Live instances stay in
	// all caches, dead ones leave them, and registrations go on.
	t.Run("the stream's leader is lost", func(t *testing.T) {
		observer := connect(t)
		p := start(t, plan{URL: all, TTL: 4 * time.Second,
			Services: []kvService{{ID: "live", Name: "app", Address: "h:1"}}})
		dies := start(t, plan{URL: all, TTL: 4 * time.Second,
			Services: []kvService{{ID: "dies", Name: "app", Address: "h:1"}}})
		sees(t, observer, natstest.Soon, "app", "dies", "live")
		leader := natstest.StreamLeader(t, servers, "KV_registry_default")
		leader.Down()
		dies.kill()
		lost := time.Now()
		owner := connect(t)
		register(t, owner, kvregistry.Service{ID: "new", Name: "app", Address: "h:1"})
		t.Logf("registered %s after the leader was lost", time.Since(lost).Round(time.Millisecond))
		for time.Since(lost) < 6*time.Second || len(ids(t, observer, "app")) != 2 {
			got := ids(t, observer, "app")
			if len(got) == 0 || got[len(got)-1] != "new" && got[len(got)-1] != "live" ||
				!contains(got, "live") {
				t.Fatalf("the live instance is gone: %v", got)
			}
			if time.Since(lost) > 2*natstest.Soon {
				t.Fatalf("the dead instance stays: %v", got)
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Logf("the dead instance was gone within %s", time.Since(lost).Round(time.Millisecond))
		leader.Up()
		natstest.AwaitCluster(t, servers)
		natstest.AwaitReplicas(t, natstest.Connect(t, all), "KV_registry_default", 3)
		register(t, owner, kvregistry.Service{ID: "newer", Name: "app", Address: "h:1"})
		sees(t, observer, natstest.Soon, "app", "live", "new", "newer")
		_ = p
	})
	// Invariant 4: a client whose own server is lost goes on with another.
	t.Run("a client's server is lost", func(t *testing.T) {
		nc := natstest.Connect(t, all)
		observer := openOn(t, nc)
		owner := connect(t)
		register(t, owner, kvregistry.Service{ID: "1", Name: "move", Address: "h:1"})
		sees(t, observer, natstest.Soon, "move", "1")
		var its *natstest.Server
		for _, s := range servers {
			if s.URL() == nc.ConnectedUrl() {
				its = s
			}
		}
		its.Down()
		defer its.Up()
		register(t, owner, kvregistry.Service{ID: "2", Name: "move", Address: "h:1"})
		took := sees(t, observer, natstest.Soon, "move", "1", "2")
		t.Logf("the instance was seen %s after the registration", took.Round(time.Millisecond))
	})
}

// Invariant 2: if a server is cut off from its cluster, heartbeats of its clients are not
// acknowledged, though their connection works. With ForceReconnect a process moves to another
// server in time, and its instances leave no cache. Seen to fail without Keeper.move.
func TestServerCutOffFromItsCluster(t *testing.T) {
	t.Parallel()
	const ttl = 6 * time.Second // long enough for a move, even on a slow machine
	f := newFleet(t, 3)
	maker := openOn(t, f.connect(), kvregistry.TTL(ttl))
	sees(t, maker, natstest.Soon, "web")
	f.awaitReplicas("KV_registry_default")
	leader := f.leader("KV_registry_default")
	if leader == nil {
		t.Fatal("the stream has no leader")
	}
	var others []*node
	for _, n := range f.nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	observer := openOn(t, natstest.Connect(t, leader.address()), kvregistry.TTL(ttl))
	nc := natstest.Connect(t, others[0].address()+","+leader.address()+","+others[1].address(),
		nats.DontRandomize(), nats.IgnoreDiscoveredServers())
	owner := openOn(t, nc, kvregistry.TTL(ttl), kvregistry.ForceReconnect())
	register(t, owner, web("a"))
	sees(t, observer, natstest.Soon, "web", "a")
	heal := hurtLinks(others[0].links, (*link).cut)
	// the time that is watched
	for end := time.Now().Add(2 * ttl); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got := ids(t, observer, "web"); !contains(got, "a") {
			t.Fatalf("the instance is gone: %v", got)
		}
	}
	if h := owner.Health(); h.Lease != kvregistry.LeaseHeld || nc.Stats().Reconnects != 1 {
		t.Errorf("it is connected to %s after %d reconnects; %+v", nc.ConnectedAddr(),
			nc.Stats().Reconnects, h)
	}
	heal()
}
