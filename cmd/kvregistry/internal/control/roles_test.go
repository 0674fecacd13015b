package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant/operator"
)

// "drain" needs the role operator, and "deregister" one that writes the service. The others are
// told that they may not. Seen to fail with a drain that waits for an answer all the same.
func TestCommandsByRole(t *testing.T) {
	t.Parallel()
	access := map[operator.Role]operator.Access{}
	var users strings.Builder
	for _, role := range operator.Roles() {
		var services []string
		if role == operator.RoleRegistrar {
			services = []string{"web"}
		}
		a, err := operator.Permissions("default", role, services...)
		must(t, err)
		access[role] = a
		fmt.Fprintf(&users, "{user: %s, password: p, %s}\n", role, a.Config())
	}
	conf := natstest.Configured(t, "authorization: {users: [\n"+users.String()+
		"{user: root, password: p}]}\n")
	s := natstest.Start(t, func(o *server.Options) { o.Users = conf.Users })
	owner, err := kvregistry.New(t.Context(), s.Connect(nats.UserInfo("root", "p"),
		nats.CustomInboxPrefix("_INBOX_default.root")), kvregistry.WithoutReaping())
	must(t, err)
	t.Cleanup(func() { _ = owner.Close() })
	for role, may := range map[operator.Role]struct{ drain, deregister bool }{
		operator.RoleOperator: {true, true}, operator.RoleService: {false, true},
		operator.RoleRegistrar: {false, true}, operator.RoleReaper: {false, true},
		operator.RoleObserver: {false, false},
	} {
		for command, may := range map[string]bool{"deregister": may.deregister,
			"drain": may.drain} {
			id := string(role) + "-" + command
			_, err := owner.Register(kvregistry.Service{Name: "web", ID: id, Address: "h:1"})
			must(t, err)
			args := []string{command, "web/" + id, "--user", string(role), "--password", "p",
				"--inbox", access[role].Inbox}
			if command == "deregister" { // the owner writes it again
				args = append(args, "--force")
			}
			code, out, text := called(s.URL(), args...)
			switch {
			case may && code != 0:
				t.Errorf("%s may %s: %d %s", role, command, code, text)
			case !may && (code != 1 || out != "" || !strings.Contains(text, "permission denied")):
				t.Errorf("%s may not %s: %d %q %q", role, command, code, out, text)
			}
		}
	}
}
