package integration

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// seedFile is the file that holds the seed of a user's nkey.
type seedFile struct {
	path, public string
	seed         []byte
}

func (f seedFile) option(t *testing.T) nats.Option {
	t.Helper()
	opt, err := nats.NkeyOptionFromSeed(f.path)
	must(t, err)
	return opt
}

func newSeedFile(t *testing.T) seedFile {
	t.Helper()
	_, seed, public := userKey(t)
	f := seedFile{filepath.Join(t.TempDir(), "seed"), public, seed}
	must(t, os.WriteFile(f.path, seed, 0o600))
	return f
}

// knowing returns the part of a configuration file with users that have these nkeys, and "observer"
// with a password.
func knowing(list ...seedFile) string {
	users := "{ user: observer, password: p }"
	for _, f := range list {
		users += ", { nkey: " + f.public + " }"
	}
	return "authorization { users: [ " + users + " ] }\n"
}

// A process changes to another nkey by a second connection, and its registration is never missing.
// With the same id the new registry takes over. With another id both are there for a while. Seen to
// fail with the old registry closed first, and with the old nkey removed from the server a TTL and
// more before the new registration.
func TestNkeyIsRotated(t *testing.T) {
	t.Parallel()
	for name, id := range map[string]string{"the same id": "a", "another id": "b"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old, next := newSeedFile(t), newSeedFile(t)
			s := startReloading(t, knowing(old))
			observer := openOn(t, s.Connect(nats.UserInfo("observer", "p")))
			before := s.Connect(old.option(t))
			fenced := make(chan kvregistry.Service, 1)
			owner := openOn(t, before,
				kvregistry.OnFenced(func(s kvregistry.Service) { fenced <- s }))
			register(t, owner, web("a"))
			sees(t, observer, natstest.Soon, "web", "a")
			defer neverGone(t, observer, "web")()

			untouched(t, before, func() { s.reload(knowing(old, next)) })
			after := s.Connect(next.option(t))
			successor := openOn(t, after)
			register(t, successor, web(id))
			lease := inside.Lease(successor).ID
			if id == "a" {
				select {
				case <-fenced:
				case <-time.After(natstest.Soon):
					t.Error("the old registry was not told that it is fenced")
				}
			} else {
				sees(t, observer, natstest.Soon, "web", "a", "b")
			}
			must(t, owner.Close())
			before.Close()
			sees(t, observer, natstest.Soon, "web", id)

			s.reload(knowing(next))
			time.Sleep(2 * ttl) // by then every lease of the old connection has ended
			sees(t, observer, 0, "web", id)
			if l := inside.Lease(successor); l == nil || l.ID != lease ||
				after.Stats().Reconnects > 0 {
				t.Errorf("the lease is %v after %d reconnects", l, after.Stats().Reconnects)
			}
		})
	}
}

// A connection keeps the public nkey that it began with. If its seed file is replaced, the server
// refuses its next attempts, even if it knows both keys, and the connection is closed. Seen to fail
// with the file left as it was.
func TestSeedFileIsReplacedInPlace(t *testing.T) {
	t.Parallel()
	old, next := newSeedFile(t), newSeedFile(t)
	s := startReloading(t, knowing(old, next))
	nc := s.Connect(old.option(t))
	owner := openOn(t, nc)
	must(t, os.WriteFile(old.path, next.seed, 0o600))
	must(t, nc.ForceReconnect())
	natstest.Eventually(t, natstest.Soon, func() error {
		if !nc.IsClosed() {
			return errors.New("the connection is open")
		}
		return nil
	})
	if err := nc.LastError(); !isErr(err, nats.ErrAuthorization) {
		t.Errorf("the connection was closed by %v", err)
	}
	if _, err := owner.Register(web("a")); !isErr(err, kvregistry.ErrConnectionClosed) {
		t.Errorf("a registration over it gave %v", err)
	}
	register(t, openOn(t, s.Connect(old.option(t))), web("a")) // a new connection reads both keys
}
