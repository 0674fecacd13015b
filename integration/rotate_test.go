package integration

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// rotating is a server whose user "web" gets new credentials while it is connected.
type rotating struct {
	*natstest.Server
	web, observer nats.Option
	rotate        func() // gives the process new ones, and has the server refuse the old ones
}

func rotatingPasswords(t *testing.T) rotating {
	var opts *server.Options
	users := func(password string) []*server.User {
		return []*server.User{{Username: "web", Password: password}, {Username: "observer", Password: "p"}}
	}
	s := natstest.Start(t, func(o *server.Options) {
		o.Users = users("first")
		opts = o
	})
	var password atomic.Value
	password.Store("first")
	web := nats.UserInfoHandler(func() (string, string) { return "web", password.Load().(string) })
	return rotating{s, web, nats.UserInfo("observer", "p"), func() {
		next := password.Load().(string) + " and next"
		password.Store(next)
		changed := opts.Clone()
		changed.Users = users(next)
		must(t, s.Server().ReloadOptions(changed))
	}}
}

func rotatingJWTs(t *testing.T) rotating {
	o := newOperator(t)
	web, observer := filepath.Join(t.TempDir(), "web.creds"), filepath.Join(t.TempDir(), "observer.creds")
	o.credentials(observer, "observer", nil)
	user := o.credentials(web, "web", nil)
	return rotating{o.Server, nats.UserCredentials(web), nats.UserCredentials(observer), func() {
		old := user
		user = o.credentials(web, "web", nil)
		o.revoke(old)
	}}
}

// Credentials are changed while a process is registered: the server ends its connection, it connects again with the new ones, and
// neither its lease nor its registration ends. Seen to fail with the old ones given again.
func TestCredentialsAreRotated(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]func(*testing.T) rotating{"passwords": rotatingPasswords, "JWTs": rotatingJWTs} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := kind(t)
			nc := s.Connect(s.web)
			owner, observer := openOn(t, nc), openOn(t, s.Connect(s.observer))
			register(t, owner, web("a"))
			sees(t, observer, time.Second, "web", "a")
			events, err := observer.Watch(t.Context(), "web")
			must(t, err)
			if e := <-events; e.Kind != kvregistry.Registered {
				t.Fatalf("first %s", e.Kind)
			}
			lease := owner.Lease().ID
			for range 2 {
				lives := nc.Stats().Reconnects
				s.rotate()
				natstest.Eventually(t, 5*time.Second, func() error {
					if nc.Stats().Reconnects == lives || !nc.IsConnected() {
						return errors.New("the connection was not made again")
					}
					return nil
				})
				for end := time.Now().Add(2 * ttl); time.Now().Before(end); {
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
		})
	}
}
