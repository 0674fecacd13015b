package integration

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 2: a process whose server is cut off from its cluster gets no heartbeat acknowledged there, though the connection
// is well. If its user lets it, it moves to another server in time, and its instances leave no cache. Seen to fail without Keeper.move.
func TestServerCutOffFromItsCluster(t *testing.T) {
	t.Parallel()
	const ttl = 6 * time.Second // long enough to move in, also on a slow machine
	f := newFleet(t, 3)
	maker := openOn(t, f.connect(), kvregistry.TTL(ttl))
	sees(t, maker, natstest.Soon, "web")
	f.awaitReplicas("KV_registry_default")
	leader := f.leader("KV_registry_default")
	if leader == nil {
		t.Fatal("no leader")
	}
	var others []*node
	for _, n := range f.nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	observer := openOn(t, natstest.Connect(t, leader.address()), kvregistry.TTL(ttl))
	nc := natstest.Connect(t, others[0].address()+","+leader.address()+","+others[1].address(), nats.DontRandomize(), nats.IgnoreDiscoveredServers())
	owner := openOn(t, nc, kvregistry.TTL(ttl), kvregistry.ForceReconnect())
	register(t, owner, web("a"))
	sees(t, observer, natstest.Soon, "web", "a")
	heal := hurtLinks(others[0].links, (*link).cut)
	for end := time.Now().Add(2 * ttl); time.Now().Before(end); time.Sleep(10 * time.Millisecond) { // what is lived through
		if got := ids(t, observer, "web"); !contains(got, "a") {
			t.Fatalf("it is gone: %v", got)
		}
	}
	if h := owner.Health(); h.Lease != kvregistry.LeaseHeld || nc.Stats().Reconnects != 1 {
		t.Errorf("connected to %s, made again %d times; %+v", nc.ConnectedAddr(), nc.Stats().Reconnects, h)
	}
	heal()
}
