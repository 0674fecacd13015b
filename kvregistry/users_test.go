package kvregistry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// users are the users of a server, each named as its role in the default tenant. The registrar may
// register "web".
type users map[string]operator.Access

// newUsers makes users, each with the permissions that are generated for its role.
func newUsers(t testing.TB) users {
	t.Helper()
	all := users{}
	for _, role := range operator.Roles() {
		var services []string
		if role == operator.RoleRegistrar {
			services = []string{"web"}
		}
		access, err := operator.Permissions(DefaultTenant, role, services...)
		if err != nil {
			t.Fatal(err)
		}
		all[string(role)] = access
	}
	return all
}

// configure sets the users of a server.
func (u users) configure(t testing.TB) func(*server.Options) {
	t.Helper()
	var text strings.Builder
	for name, access := range u {
		fmt.Fprintf(&text, "{user: %s, password: p, %s}\n", name, access.Config())
	}
	conf := natstest.Configured(t, "authorization: {users: [\n"+text.String()+"]}\n")
	return func(o *server.Options) { o.Users = conf.Users }
}

// options returns the options by which a user connects.
func (u users) options(name string) []nats.Option {
	return []nats.Option{nats.UserInfo(name, "p"), nats.CustomInboxPrefix(u[name].Inbox),
		nats.RetryOnFailedConnect(true)}
}

// makeBucket makes the tenant's bucket, as an admin does.
func (u users) makeBucket(t testing.TB, s *natstest.Server) {
	t.Helper()
	b, err := tenant.New(s.Connect(u.options("admin")...), DefaultTenant, tenant.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// open makes a registry of a user.
func (u users) open(t testing.TB, s *natstest.Server, name string, opts ...Option) *Registry {
	t.Helper()
	r, err := New(t.Context(), s.Connect(u.options(name)...),
		append([]Option{discard(), TTL(lease.MinTTL)}, opts...)...)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}
