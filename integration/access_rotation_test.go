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
	// makes the server accept new credentials beside the old ones, if it does not anyway; ends no
	// connection
	know   func()
	give   func(nc *nats.Conn) // gives the process new credentials for its next connection
	refuse func(nc *nats.Conn) // makes the server refuse the old credentials and end nc
}

// together combines several options into one.
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

// untouched makes a change, and fails the test if that ends the connection.
func untouched(t *testing.T, nc *nats.Conn, change func()) {
	t.Helper()
	lives := nc.Stats().Reconnects
	change()
	if err := nc.Flush(); err != nil || nc.Stats().Reconnects != lives {
		t.Errorf("the change ended a connection: %v", err)
	}
}

// rotatingPasswords starts a server that changes its user's password, and accepts one password at a
// time.
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

// rotatingJWTs starts a server in operator mode, which accepts every JWT that the account has
// signed.
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

// rotatingCertificates starts a server that identifies its users by certificates. The new
// certificate belongs to another user, with the same permissions and the same inbox.
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

// rotatingAuthorities starts a server that changes to another authority for client certificates.
// That ends no connection, so the test ends it, and once before that, between the replacement of
// the certificate and that of its key.
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

// config returns the part of a configuration file that makes a server show a certificate of this
// authority, and ask for one of a trusted authority.
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

// Credentials are changed while a process is registered. The server ends its connection, the
// process connects again with the new ones, and neither its lease nor its registration ends. Seen
// to fail with the old credentials given again, with a new user that has another inbox, and with
// one that replaces the old one before the process knows it.
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
			observer := openOn(t, s.connect(s.observer)) // it makes the bucket
			nc := s.connect(s.web)
			owner := openOn(t, nc)
			register(t, owner, web("a"))
			sees(t, observer, natstest.Soon, "web", "a")
			events, err := observer.Watch(t.Context(), "web")
			must(t, err)
			if e := <-events; e.Kind != kvregistry.Registered {
				t.Fatalf("the first event is %s", e.Kind)
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
						return errors.New("the connection was not renewed")
					}
					return nil
				})
				for end := time.Now().Add(2 * ttl); time.Now().Before(end); {
					select {
					case e := <-events:
						t.Fatalf("the registration should stay, and was %s", e.Kind)
					case <-time.After(50 * time.Millisecond):
					}
				}
				if l := inside.Lease(owner); l == nil || l.ID != lease {
					t.Errorf("the lease has changed: %v", l)
				}
			}
		})
	}
}

// If the server refuses the old credentials before the process has new ones, nats.go gives up,
// unless it has the option IgnoreAuthErrorAbort. Seen to fail with the new ones given first, and
// without the option.
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

// neverGone looks up a service again and again, and at each event, until stop is called. It fails
// the test if no instance is found.
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
				t.Errorf("a look-up meanwhile gave %v", err)
				return
			}
		}
	}()
	return func() {
		cancel()
		<-stopped
	}
}
