package integration

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// rotating is a server whose user "web" gets new credentials while it is connected.
type rotating struct {
	connect func(...nats.Option) *nats.Conn

	web, observer nats.Option
	rotate        func() // gives the process new ones, and has the server refuse the old ones
}

// untouched makes a change that ends no connection.
func untouched(t *testing.T, nc *nats.Conn, change func()) {
	t.Helper()
	lives := nc.Stats().Reconnects
	change()
	if err := nc.Flush(); err != nil || nc.Stats().Reconnects != lives {
		t.Errorf("the change ended a connection: %v", err)
	}
}

// rotatingPasswords is a server that changes its user's password, and knows one at a time.
func rotatingPasswords(t *testing.T) rotating {
	users := func(password int) string {
		return fmt.Sprintf(`authorization { users: [ { user: web, password: "%d" }, { user: observer, password: p } ] }`, password)
	}
	s := startReloading(t, users(0))
	var given atomic.Int64
	asked := 0
	web := nats.UserInfoHandler(func() (string, string) { return "web", fmt.Sprint(given.Load()) })
	return rotating{s.Connect, web, nats.UserInfo("observer", "p"), func() {
		given.Add(1)
		asked++
		s.reload(users(asked))
	}}
}

func rotatingJWTs(t *testing.T) rotating {
	o := newOperator(t)
	web, observer := filepath.Join(t.TempDir(), "web.creds"), filepath.Join(t.TempDir(), "observer.creds")
	o.credentials(observer, "observer", nil)
	user := o.credentials(web, "web", nil)
	return rotating{o.Connect, nats.UserCredentials(web), nats.UserCredentials(observer), func() {
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
			nc := s.connect(s.web)
			owner, observer := openOn(t, nc), openOn(t, s.connect(s.observer))
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

// neverGone looks a service up, again and again and at each event, until stop is called, and fails the test where no instance is found.
func neverGone(t *testing.T, observer *kvregistry.Registry, name string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events, err := observer.Watch(ctx, name)
	must(t, err)
	stopped := make(chan struct{})
	go func() { // ends with ctx
		defer close(stopped)
		there := map[string]bool{}
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			case e := <-events:
				switch e.Kind {
				case kvregistry.Registered, kvregistry.Updated:
					there[e.Service.ID] = true
				default:
					delete(there, e.Service.ID)
				}
				if len(there) == 0 && ctx.Err() == nil {
					t.Errorf("the last instance of %s was %s", name, e.Kind)
				}
			}
			if _, err := observer.GetService(name); err != nil {
				t.Errorf("a look-up meanwhile: %v", err)
				return
			}
		}
	}()
	return func() {
		cancel()
		<-stopped
	}
}
