package browse

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant/operator"
)

// A user with the role observer may run each command that reads. Seen to fail without its inbox.
func TestReadingAsObserver(t *testing.T) {
	t.Parallel()
	access, err := operator.Permissions("acme", operator.RoleObserver)
	if err == nil {
		access, err = access.For("eye")
	}
	if err != nil {
		t.Fatal(err)
	}
	configured := natstest.Configured(t, fmt.Sprintf("accounts: { A: { jetstream: enabled, users: "+
		"[\n{ user: boss, password: b }\n{ user: eye, password: e\n%s}\n] } }", access.Config()))
	s := natstest.Start(t, func(o *server.Options) {
		o.Accounts, o.Users = configured.Accounts, configured.Users
	})
	boss := strings.Replace(s.URL(), "//", "//boss:b@", 1)
	reg, err := kvregistry.New(t.Context(), natstest.Connect(t, boss), kvregistry.Tenant("acme"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	if _, err := reg.Register(kvregistry.Service{Name: "web", ID: "a",
		Address: "h:1"}); err != nil {
		t.Fatal(err)
	}
	login := " --tenant acme --user eye --password e --inbox " + access.Inbox
	for line, want := range map[string]string{
		"ls":             "web      1 ",
		"ls web":         "web/a",
		"get web/a":      "process",
		"resolve web":    "h:1\n",
		"wait web":       "web/a",
		"leases -o json": `"registrations": 1`,
	} {
		if code, out, text := called(s.URL(), line+login); code != 0 ||
			!strings.Contains(out, want) {
			t.Errorf("%s: %d %s%s", line, code, out, text)
		}
	}
	b := start(t, s.URL(), "watch --since 1"+login)
	b.says(t, "web/a")
	if err := reg.Unregister("web"); err != nil {
		t.Fatal(err)
	}
	b.says(t, "unregistered  web/a")
}
