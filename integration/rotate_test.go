package integration

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Credentials are changed while a process is registered: the server ends its connection, it connects again with the new ones, and
// neither its lease nor its registration ends. Seen to fail with the old password given again.
func TestCredentialsAreRotated(t *testing.T) {
	t.Parallel()
	var opts *server.Options
	users := func(password string) []*server.User {
		return []*server.User{{Username: "web", Password: password}, {Username: "observer", Password: "p"}}
	}
	s := natstest.Start(t, func(o *server.Options) {
		o.Users = users("old")
		opts = o
	})
	var password atomic.Value
	password.Store("old")
	nc := s.Connect(nats.UserInfoHandler(func() (string, string) { return "web", password.Load().(string) }))
	owner := openOn(t, nc)
	observer := openOn(t, s.Connect(nats.UserInfo("observer", "p")))
	register(t, owner, web("a"))
	sees(t, observer, time.Second, "web", "a")
	events, err := observer.Watch(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Kind != kvregistry.Registered {
		t.Fatalf("first %s", e.Kind)
	}
	lease := owner.Lease().ID
	for _, next := range []string{"new", "newer"} {
		lives := nc.Stats().Reconnects
		password.Store(next)
		changed := opts.Clone()
		changed.Users = users(next)
		if err := s.Server().ReloadOptions(changed); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, 5*time.Second, func() error {
			if nc.Stats().Reconnects == lives || !nc.IsConnected() {
				return errors.New("the connection was not made again")
			}
			return nil
		})
		end := time.Now().Add(2 * ttl)
		for time.Now().Before(end) {
			select {
			case e := <-events:
				t.Fatalf("a registration that goes on was %s", e.Kind)
			case <-time.After(50 * time.Millisecond):
			}
		}
		if l := owner.Lease(); l == nil || l.ID != lease {
			t.Errorf("another lease than before: %v", l)
		}
	}
}
