package doctor

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// populate runs a process that registers an instance that listens, an observer and a reaper, each
// on a connection of its own.
func populate(t *testing.T, connect func() *nats.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	reaping(t, process(t, connect()))
	observer := process(t, connect(), kvregistry.WithoutReaping())
	register(t, process(t, connect(), kvregistry.WithoutReaping()), "web", "1", l.Addr().String())
	_, err = observer.WaitFor(t.Context(), "web", 1)
	must(t, err)
}

// healthy checks that examinations of a tenant have no finding, and no check that was not done
// except these.
func healthy(t *testing.T, nc *nats.Conn, cfg Config, notDone ...string) {
	t.Helper()
	for range 3 {
		r := examine(t, nc, cfg)
		var names []string
		for _, u := range r.NotChecked {
			names = append(names, u.Name)
		}
		slices.Sort(names)
		if len(r.Findings) > 0 || r.Wrong() || len(r.Passed)+len(names) != len(checks) {
			t.Errorf("%+v", r)
		}
		if diff := cmp.Diff(notDone, names); diff != "" {
			t.Errorf("not done (-want +got):\n%s\n%+v", diff, r.NotChecked)
		}
	}
}

// A healthy tenant has no finding, on one server and in a cluster. Seen to fail with a check of
// replicas that takes a lag of 0 for one.
func TestHealthyTenant(t *testing.T) {
	t.Parallel()
	t.Run("one server", func(t *testing.T) {
		t.Parallel()
		s := start(t, func(o *server.Options) { o.SyncAlways = true })
		populate(t, func() *nats.Conn { return login(s) })
		healthy(t, login(s), Config{Dial: true, System: systemOf(s)})
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		list := natstest.Cluster(t, accounts(t, "enabled"))
		provision(t, login(list[0]), tenant.Config{})
		natstest.AwaitReplicas(t, login(list[0]), stream, 3)
		n := 0
		populate(t, func() *nats.Conn { n++; return login(list[n%3]) })
		for _, s := range list {
			healthy(t, login(s), Config{Dial: true, System: systemOf(s)})
		}
	})
}

// What no role may see, and what needs the system account.
var (
	noRole   = []string{"flapping", "older-version", "slow-consumers"}
	noSystem = []string{"closed-connections", "ha-assets", "server-versions", "slow-connections",
		"sync-interval"}
)

// Each role that reads may examine its tenant. What it may not see is not checked, it is not taken
// for healthy, and the server has nothing to refuse. Seen to fail if consumers are asked for in
// vain.
func TestHealthyTenantOfARole(t *testing.T) {
	t.Parallel()
	for _, role := range []operator.Role{operator.RoleObserver, operator.RoleService,
		operator.RoleRegistrar, operator.RoleOperator, operator.RoleReaper} {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			var services []string
			if role == operator.RoleRegistrar {
				services = []string{"web"}
			}
			access, err := operator.Permissions(name, role, services...)
			must(t, err)
			s, root := guarded(t, "ann", access)
			populate(t, func() *nats.Conn { return login(s) })
			nc := s.Connect(nats.UserInfo("ann", "p"), nats.CustomInboxPrefix(access.Inbox))
			want := slices.Concat(noRole, noSystem, []string{"silent-addresses"})
			slices.Sort(want)
			healthy(t, nc, Config{}, want...)
			healthy(t, nc, Config{Role: role}, want...)
			if nc.LastError() != nil {
				t.Error("the server refused:", nc.LastError())
			}
			if r := examine(t, nc, Config{Role: operator.RoleAdmin}); r.has("permissions", Error,
				"STREAM.UPDATE") != nil {
				t.Errorf("%+v", r)
			}
			healthy(t, root, Config{Dial: true}, noSystem...)
		})
	}
}

// Behind the mirror of a leaf node a healthy tenant has no finding, and in the hub neither.
func TestHealthyTenantWithAMirror(t *testing.T) {
	t.Parallel()
	hub, leaf := site(t)
	mirrored(t, leaf.Connect())
	populate(t, func() *nats.Conn { return leaf.Connect() })
	healthy(t, leaf.Connect(), Config{Dial: true}, noSystem...)
	healthy(t, hub.Connect(), Config{Dial: true}, noSystem...)
}

// Ids that change their owner once are not contested, as after a restart. Seen to fail with a check
// that counts the first change.
func TestOneChangeOfOwner(t *testing.T) {
	t.Parallel()
	nc := login(start(t))
	provision(t, nc, tenant.Config{})
	n := 0
	repeat(t, func() {
		n++
		id := fmt.Sprint(n)
		one := record(id, "L", here)
		for _, value := range []string{one, strings.Replace(one, `"O"`, `"P"`, 1)} {
			_, _ = nc.Request("$KV."+bucket+".svc.web."+id, []byte(value), natstest.Soon)
		}
	})
	for _, f := range examine(t, nc, Config{}).Findings {
		if f.Name == "contested" {
			t.Errorf("%+v", f)
		}
	}
}
