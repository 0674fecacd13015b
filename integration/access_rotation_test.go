package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant/operator"
)

// rotating is a server whose user "web" gets new credentials while it is connected.
type rotating struct {
	connect func(...nats.Option) *nats.Conn

	web, observer nats.Option
	// has the server know new ones beside the old ones, where it does not anyway; it ends no
	// connection
	know   func()
	give   func(nc *nats.Conn) // has the process find new ones when it connects next
	refuse func(nc *nats.Conn) // has the server refuse the old ones, and nc end
}

// together is several options as one.
func together(list ...nats.Option) nats.Option {
	return func(o *nats.Options) error {
		for _, opt := range list {
			if err := opt(o); err != nil {
				return err
			}
		}
		return nil
	}
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
		return fmt.Sprintf(`authorization { users: [
			{ user: web, password: "%d" }, { user: observer, password: p }
		] }`, password)
	}
	s := startReloading(t, users(0))
	var given atomic.Int64
	asked := 0
	web := nats.UserInfoHandler(func() (string, string) { return "web", fmt.Sprint(given.Load()) })
	return rotating{s.Connect, web, nats.UserInfo("observer", "p"), nil,
		func(*nats.Conn) { given.Add(1) }, func(*nats.Conn) {
			asked++
			s.reload(users(asked))
		}}
}

// rotatingJWTs is a server in operator mode, which knows whatever the account has signed.
func rotatingJWTs(t *testing.T) rotating {
	o := newOperator(t)
	web, observer := filepath.Join(t.TempDir(), "web.creds"),
		filepath.Join(t.TempDir(), "observer.creds")
	o.credentials(observer, "observer", nil)
	given := o.credentials(web, "web", nil)
	asked := given
	give := func(*nats.Conn) { given = o.credentials(web, "web", nil) }
	return rotating{o.Connect, nats.UserCredentials(web), nats.UserCredentials(observer), nil, give,
		func(*nats.Conn) {
			o.revoke(asked)
			asked = given
		}}
}

// rotatingCertificates is a server that knows its users by their certificates. The new one is of
// another user, who may do what the one before did, and be answered at the same inbox.
func rotatingCertificates(t *testing.T) rotating {
	access, err := operator.Permissions(kvregistry.DefaultTenant, operator.RoleService)
	must(t, err)
	ca := newAuthority(t)
	web := func(n int) string { return fmt.Sprintf("web%d", n) }
	users := func(numbers ...int) string {
		list := map[string]operator.Access{}
		for _, n := range numbers {
			list[web(n)] = access
		}
		return ca.config(t, "verify_and_map", ca) + configuration(list,
			func(user string) string { return fmt.Sprintf("user: %q", user+"@example.com") })
	}
	s := startReloading(t, users(0))
	cert, key := ca.files(t, web(0))
	given, asked := 0, 0
	return rotating{
		s.Connect, together(ca.fromFiles(cert, key), nats.CustomInboxPrefix(access.Inbox)),
		ca.client(t, "root"),
		func() { s.reload(users(asked, asked+1)) },
		func(*nats.Conn) {
			given++
			newCert, newKey := ca.files(t, web(given))
			must(t, os.Rename(newCert, cert))
			must(t, os.Rename(newKey, key))
		},
		func(*nats.Conn) {
			asked++
			s.reload(users(asked))
		},
	}
}

// rotatingAuthorities is a server that gets another authority of the process's certificates. That
// ends no connection, so that it is ended by hand, and before that once between the new
// certificate's coming and its key's.
func rotatingAuthorities(t *testing.T) rotating {
	ca, old := newAuthority(t), newAuthority(t)
	var next *authority
	s := startReloading(t, ca.config(t, "verify", ca, old))
	cert, key := old.files(t, "web")
	return rotating{
		s.Connect, ca.fromFiles(cert, key), ca.client(t, "observer"),
		func() {
			next = newAuthority(t)
			s.reload(ca.config(t, "verify", ca, old, next))
		},
		func(nc *nats.Conn) {
			newCert, newKey := next.files(t, "web")
			must(t, os.Rename(newCert, cert))
			lives := nc.Stats().Reconnects
			s.kick(nc)
			natstest.Eventually(t, natstest.Soon, func() error {
				if nc.Stats().Reconnects < lives+2 || nc.IsConnected() {
					return errors.New("no two attempts failed with another certificate's key")
				}
				return nil
			})
			must(t, os.Rename(newKey, key))
			natstest.Eventually(t, natstest.Soon, nc.Flush)
		},
		func(nc *nats.Conn) {
			untouched(t, nc, func() { s.reload(ca.config(t, "verify", ca, next)) })
			s.kick(nc)
			old = next
		},
	}
}

// config is the part of a configuration file that has a server show a certificate of this
// authority, and ask for one of those that are trusted.
func (a *authority) config(t *testing.T, verify string, trusted ...*authority) string {
	t.Helper()
	cert, key := a.files(t, "server")
	var ders [][]byte
	for _, ca := range trusted {
		ders = append(ders, ca.cert.Raw)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, file, "CERTIFICATE", ders...)
	return fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, %s: true, timeout: 5 }\n",
		cert, key, file, verify)
}

// Credentials are changed while a process is registered: the server ends its connection, it
// connects again with the new ones, and neither its lease nor its registration ends. Seen to fail
// with the old ones given again, with a new user that has another inbox, and with one that takes
// the old one's place before the process knows it.
func TestCredentialsAreRotated(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]func(*testing.T) rotating{
		"passwords": rotatingPasswords, "JWTs": rotatingJWTs,
		"client certificates, mapped to users":     rotatingCertificates,
		"client certificates of another authority": rotatingAuthorities,
	} {
		t.Run(name, func(t *testing.T) {
			longUnlessCommon(t, name)
			t.Parallel()
			s := kind(t)
			observer := openOn(t, s.connect(s.observer)) // which makes the bucket
			nc := s.connect(s.web)
			owner := openOn(t, nc)
			register(t, owner, web("a"))
			sees(t, observer, natstest.Soon, "web", "a")
			events, err := observer.Watch(t.Context(), "web")
			must(t, err)
			if e := <-events; e.Kind != kvregistry.Registered {
				t.Fatalf("first %s", e.Kind)
			}
			lease := inside.Lease(owner).ID
			for range 2 {
				if s.know != nil {
					untouched(t, nc, s.know)
				}
				s.give(nc)
				lives := nc.Stats().Reconnects
				s.refuse(nc)
				natstest.Eventually(t, natstest.Soon, func() error {
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
				if l := inside.Lease(owner); l == nil || l.ID != lease {
					t.Errorf("another lease than before: %v", l)
				}
			}
		})
	}
}

// Where the server refuses the old credentials before the process has new ones, nats.go gives up,
// unless it is told not to. Seen to fail with the new ones given first, and without the option.
func TestCredentialsAreRefusedTooEarly(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]func(*testing.T) rotating{"passwords": rotatingPasswords,
		"JWTs": rotatingJWTs, "client certificates": rotatingCertificates} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := kind(t)
			nc, patient := s.connect(s.web), s.connect(s.web, nats.IgnoreAuthErrorAbort())
			s.refuse(nc)
			natstest.Eventually(t, natstest.Soon, func() error {
				if !nc.IsClosed() || patient.Stats().Reconnects < 3 {
					return errors.New("no attempt was refused twice")
				}
				return nil
			})
			s.give(patient)
			natstest.Eventually(t, natstest.Soon, patient.Flush)
		})
	}
}

// neverGone looks a service up, again and again and at each event, until stop is called, and fails
// the test where no instance is found.
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
