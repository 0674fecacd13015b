package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// roles returns the users of tenant acme, one per role. The registrar's services are "web" and
// "a.b".
func roles(t *testing.T) map[string]operator.Access {
	t.Helper()
	access := map[string]operator.Access{}
	for _, role := range operator.Roles() {
		var services []string
		if role == operator.RoleRegistrar {
			services = []string{"web", "a.b"}
		}
		a, err := operator.Permissions("acme", role, services...)
		if err != nil {
			t.Fatal(err)
		}
		access[string(role)] = a
	}
	return access
}

var (
	readers = []operator.Role{operator.RoleService, operator.RoleRegistrar, operator.RoleObserver,
		operator.RoleReaper, operator.RoleOperator}
	writers = []operator.Role{operator.RoleService, operator.RoleRegistrar, operator.RoleReaper,
		operator.RoleOperator}
	anyOnes = []operator.Role{operator.RoleService, operator.RoleReaper, operator.RoleOperator}
)

// operations lists the operations of the API, each with the roles that may do it. The server has to
// refuse them to the other roles.
var operations = []struct {
	name string
	may  []operator.Role
	do   func(ctx context.Context, r *kvregistry.Registry, nc *nats.Conn, user string) error
}{
	{"look up", readers, func(ctx context.Context, r *kvregistry.Registry, _ *nats.Conn,
		_ string) error {
		_, err := r.GetServices(ctx, "there")
		return err
	}},
	{"look one up", readers, func(ctx context.Context, r *kvregistry.Registry, _ *nats.Conn,
		_ string) error {
		_, err := r.GetServiceContext(ctx, "there", kvregistry.WithStatus(kvregistry.Passing))
		return err
	}},
	{"take a snapshot", readers, func(ctx context.Context, r *kvregistry.Registry, _ *nats.Conn,
		_ string) error {
		_, err := r.SnapshotContext(ctx, "there")
		return err
	}},
	{"watch", readers, func(ctx context.Context, r *kvregistry.Registry, _ *nats.Conn,
		_ string) error {
		events, err := r.Watch(ctx, "there")
		if err != nil {
			return err
		}
		for { // a refused watch goes on, and Health has the reason
			select {
			case <-events:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Millisecond):
				if err := r.Health().Err; isErr(err, kvregistry.ErrPermission) {
					return err
				}
			}
		}
	}},
	{"observe everything", readers, func(ctx context.Context, r *kvregistry.Registry, _ *nats.Conn,
		_ string) error {
		return r.ObserveContext(ctx, kvregistry.Everything)
	}},
	{"list the names", readers, func(ctx context.Context, r *kvregistry.Registry, _ *nats.Conn,
		_ string) error {
		_, err := r.ServiceNamesContext(ctx)
		return err
	}},
	{"register a service that is named", writers, func(_ context.Context, r *kvregistry.Registry,
		_ *nats.Conn, user string) error {
		_, err := r.Register(web(user))
		return err
	}},
	{"register one whose name is escaped", writers, func(_ context.Context, r *kvregistry.Registry,
		_ *nats.Conn, user string) error {
		_, err := r.Register(kvregistry.Service{Name: "a.b", ID: user, Address: "a:1"})
		return err
	}},
	{"register another", anyOnes, func(_ context.Context, r *kvregistry.Registry, _ *nats.Conn,
		user string) error {
		_, err := r.Register(kvregistry.Service{Name: "other", ID: user, Address: "a:1"})
		return err
	}},
	{"change and take back what it registered", writers, func(ctx context.Context,
		r *kvregistry.Registry, _ *nats.Conn, user string) error {
		one := web(user + "-changes")
		if _, err := r.RegisterContext(ctx, one); err != nil {
			return err
		}
		one.Version = "2"
		return errors.Join(r.UpdateContext(ctx, one), r.SetStatusContext(ctx, "web",
			kvregistry.Warning), r.UnregisterContext(ctx, "web"))
	}},
	{"hold the name of a service that is named", writers, func(ctx context.Context,
		r *kvregistry.Registry, _ *nats.Conn, _ string) error {
		return holds(ctx, r, "web")
	}},
	{"hold another name", anyOnes, func(ctx context.Context, r *kvregistry.Registry, _ *nats.Conn,
		_ string) error {
		return holds(ctx, r, "other")
	}},
	{"end its lease", writers, func(ctx context.Context, _ *kvregistry.Registry, nc *nats.Conn,
		user string) error {
		r, err := kvregistry.New(ctx, nc, kvregistry.Tenant("acme"), kvregistry.TTL(ttl), quiet(),
			kvregistry.WithoutReaping())
		if err != nil {
			return err
		}
		_, err = r.RegisterContext(ctx, web(user+"-closes"))
		return errors.Join(err, r.CloseContext(ctx))
	}},
	{"delete the tenant", nil, func(ctx context.Context, _ *kvregistry.Registry, nc *nats.Conn,
		user string) error {
		if user == string(operator.RoleAdmin) { // the admin does it after the others
			return fmt.Errorf("%w: not now", kvregistry.ErrPermission)
		}
		return operator.Remove(ctx, nc, "acme")
	}},
	{"list the tenants", nil, func(ctx context.Context, _ *kvregistry.Registry, nc *nats.Conn,
		_ string) error {
		_, err := operator.List(ctx, nc)
		return err
	}},
	{"make another tenant", nil, func(ctx context.Context, _ *kvregistry.Registry, nc *nats.Conn,
		_ string) error {
		return operator.Provision(ctx, nc, "other", tenant.Config{})
	}},
	{"delete another tenant", nil, func(ctx context.Context, _ *kvregistry.Registry, nc *nats.Conn,
		_ string) error {
		return operator.Remove(ctx, nc, "victim")
	}},
}

// Invariant 8: each role can do its work, and the server refuses the rest, for each way to log in.
// Seen to fail with an observer that gets a service's subjects, and with a registrar that gets
// svc.>.
func TestRoles(t *testing.T) {
	t.Parallel()
	for how, guard := range authentications {
		t.Run(how, func(t *testing.T) {
			longUnlessCommon(t, how)
			t.Parallel()
			g := guard(t, roles(t))
			adminMakesTheBucket(t, g)
			root := openOn(t, g.as(t, "root"), kvregistry.Tenant("acme"))
			register(t, root, kvregistry.Service{Name: "there", ID: "a", Address: "a:1"})
			must(t, operator.Provision(t.Context(), g.as(t, "root"), "victim", tenant.Config{}))
			t.Run("each", func(t *testing.T) {
				for _, role := range operator.Roles() {
					t.Run(string(role), func(t *testing.T) {
						t.Parallel()
						operates(t, g, role)
						refusesRaw(t, g, role)
					})
				}
			})
			must(t, root.Close())
			nc := g.as(t, string(operator.RoleAdmin))
			must(t, operator.Remove(t.Context(), nc, "acme"))
			must(t, operator.Provision(t.Context(), nc, "acme",
				tenant.Config{MaxKeys: 100, MaxBytes: 1 << 20}))
			if list, err := operator.List(t.Context(), g.as(t, "root")); err != nil ||
				len(list) != 2 || list[0].MaxKeys != 100 || list[1].Tenant != "victim" {
				t.Errorf("%+v, %v", list, err)
			}
		})
	}
}

// holds holds a name for a moment.
func holds(ctx context.Context, r *kvregistry.Registry, name string) error {
	h, err := r.Exclusive(ctx, name)
	if err != nil {
		return err
	}
	return h.Release(ctx)
}

// longUnlessCommon skips, outside the long tier, a way to log in that tests the server rather than
// this library.
func longUnlessCommon(t *testing.T, how string) {
	t.Helper()
	if !strings.HasPrefix(how, "passwords") && !strings.HasPrefix(how, "JWTs") ||
		strings.Contains(how, ", ") {
		natstest.Long(t)
	}
}

// operates tries each operation of the API as a role.
func operates(t *testing.T, g *guarded, role operator.Role) {
	t.Helper()
	nc := g.as(t, string(role))
	r := openOn(t, nc, kvregistry.Tenant("acme"))
	for _, op := range operations {
		ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
		err := op.do(ctx, r, nc, string(role))
		switch may := slices.Contains(op.may, role); {
		case may && err != nil:
			t.Errorf("%s may %s: %v", role, op.name, err)
		case !may && !isErr(err, kvregistry.ErrPermission):
			t.Errorf("%s may not %s: %v", role, op.name, err)
		}
		cancel()
	}
}

// adminMakesTheBucket makes the bucket of acme as the admin, after the other roles could not.
func adminMakesTheBucket(t *testing.T, g *guarded) {
	t.Helper()
	for _, role := range operator.Roles() {
		if role == operator.RoleAdmin {
			continue
		}
		_, err := kvregistry.New(t.Context(), g.as(t, string(role)), kvregistry.Tenant("acme"),
			quiet())
		if !isErr(err, kvregistry.ErrPermission) {
			t.Errorf("without a bucket, New of the %s gave %v", role, err)
		}
	}
	must(t, operator.Provision(t.Context(), g.as(t, string(operator.RoleAdmin)), "acme",
		tenant.Config{MaxKeys: 1000}))
}

// A look-up by a user that may not read fails at once, without a wait for its time-out, each time.
// Seen to fail with a wait that does not check why there is no snapshot.
func TestLookUpThatIsNotAllowed(t *testing.T) {
	t.Parallel()
	g := passwords(t, roles(t))
	r := openOn(t, g.as(t, string(operator.RoleAdmin)), kvregistry.Tenant("acme"))
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, err := r.GetServices(ctx, "web")
		if !isErr(err, kvregistry.ErrUnavailable) || !isErr(err, kvregistry.ErrPermission) ||
			ctx.Err() != nil {
			t.Errorf("%v", err)
		}
		cancel()
	}
}

// A role that may reap removes the registrations of the dead. A role that may not reap leaves them,
// logs that once, and does not try. Seen to fail with a reaper that tries all the same, and without
// the longer form of acknowledgements.
func TestReapingByRole(t *testing.T) {
	t.Parallel()
	for how, guard := range authentications {
		for _, role := range readers {
			if how != "passwords" && role != operator.RoleReaper {
				continue // the difference is how a reaper's requests get through
			}
			t.Run(how+"/"+string(role), func(t *testing.T) {
				longUnlessCommon(t, how)
				t.Parallel()
				reapsByRole(t, guard(t, roles(t)), role)
			})
		}
	}
}

func reapsByRole(t *testing.T, g *guarded, role operator.Role) {
	t.Helper()
	must(t, operator.Provision(t.Context(), g.as(t, string(operator.RoleAdmin)), "acme",
		tenant.Config{}))
	log, refused := &natstest.Log{}, &refusals{}
	r := openOn(t, g.as(t, string(role), refused.handler()), kvregistry.Tenant("acme"),
		kvregistry.Logger(log.Logger()))
	sees(t, r, natstest.Soon, "web")
	root := g.as(t, "root")
	kv := bucket(t, root, "acme")
	_, err := kv.Create(t.Context(), "lease.DEAD", nil, jetstream.KeyTTL(ttl))
	must(t, err)
	_, err = kv.Put(t.Context(), "svc.web.a",
		[]byte(`{"format":1,"instance":{"id":"a"`+
			`,"name":"web","address":"a:1"},"lease":"DEAD","owner":"x"}`))
	must(t, err)
	sees(t, r, natstest.Soon, "web", "a")
	if slices.Contains(anyOnes, role) {
		sees(t, r, natstest.Soon, "web")
		if len(refused.all()) > 0 {
			t.Errorf("%q were refused", refused.all())
		}
		return
	}
	time.Sleep(2*ttl + 3*time.Second) // checks that something does not happen
	if got := ids(t, r, "web"); len(got) != 1 {
		t.Error("the dead instance was removed by a role that may not reap")
	}
	if n := log.Count("leaves reaping to others"); n != 1 || len(refused.all()) > 0 {
		t.Errorf("the line was logged %d times, and %q were refused", n, refused.all())
	}
}
