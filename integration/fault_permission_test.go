package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariants 4 and 5: a user whose permissions are revoked while it is connected goes on answering
// from memory. It does not load the server with refused requests, and recovers when the permissions
// are given back. If it may not subscribe to its answers any more, only a new connection helps,
// every 10 s at most. Seen to fail with a Revive that checks for dead connections alone.
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
		return fmt.Sprintf("authorization { users: [ { user: u, password: p, permissions: { %s } "+
			"}, { user: admin, password: p } ] }\n", perms)
	}
	const all = `publish: ">", subscribe: ">"`
	s := startReloading(t, users(all))
	observer := openOn(t, s.Connect(nats.UserInfo("u", "p")), kvregistry.ForceReconnect())
	owner := openOn(t, s.Connect(nats.UserInfo("admin", "p")))
	register(t, owner, web("a"))
	sees(t, observer, natstest.Soon, "web", "a")
	s.reload(users(perms))
	// otherwise the view would go on seeing changes
	deleteViews(t, s.Connect(nats.UserInfo("admin", "p")))
	register(t, owner, web("b"))
	before := observer.Health().Resyncs
	end := time.Now().Add(2 * ttl)
	for time.Now().Before(end) {
		if got := ids(t, observer, "web"); len(got) == 0 {
			t.Fatal("a look-up fails that was answered before")
		}
		time.Sleep(10 * time.Millisecond) // between two look-ups
	}
	if h := observer.Health(); h.OK() || h.Resyncs-before > 12 {
		t.Errorf("while its requests are refused: %+v, with %d resyncs before", h, before)
	}
	s.reload(users(all))
	took := sees(t, observer, 10*time.Second+natstest.Soon, "web", "a", "b")
	t.Logf("all was right %s after the permissions were given back", took.Round(time.Millisecond))
}
