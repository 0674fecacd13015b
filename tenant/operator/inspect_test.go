package operator

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/internal/stream"
)

// A user with a role may inspect its tenant and is told what it may do. What no role allows is
// refused without a violation in the server's log. Seen to fail if Consumers asks the server first.
func TestInspectAsAnObserver(t *testing.T) {
	t.Parallel()
	access, err := Permissions("acme", RoleObserver)
	if err == nil {
		access, err = access.For("ann")
	}
	if err != nil {
		t.Fatal(err)
	}
	opts := natstest.Configured(t, "authorization { users: [\n{ "+User("root", "p")+" }\n{ "+
		User("ann", "p")+"\n"+access.Config()+"}\n] }\n")
	s := natstest.Start(t, func(o *server.Options) { o.Users = opts.Users })
	if err := Provision(t.Context(), s.Connect(nats.UserInfo("root", "p")), "acme",
		tenant.Config{}); err != nil {
		t.Fatal(err)
	}
	nc := s.Connect(nats.UserInfo("ann", "p"), nats.CustomInboxPrefix(access.Inbox))
	u, err := Identify(t.Context(), nc, 0)
	const info = "$JS.API.STREAM.INFO.KV_registry_acme"
	if err != nil || u.Name != "ann" || !u.Publish.Include(info) ||
		u.Publish.Include("$KV.registry_acme.svc.web.1") || u.Subscribe.Include("x") {
		t.Errorf("%+v, %v", u, err)
	}
	i, err := Inspect(t.Context(), nc, "acme", "")
	if err != nil || i.Stream == nil || len(i.Differences) > 0 || i.RoundTrip <= 0 || i.Hub != "" ||
		i.Offset.Abs() > natstest.Soon {
		t.Errorf("%+v, %v", i, err)
	}
	_, err = Consumers(t.Context(), nc, "acme", "")
	if !errors.Is(err, tenant.ErrPermission) || nc.LastError() != nil {
		t.Errorf("%v; the server said %v", err, nc.LastError())
	}
}

// Inspect tells of a bucket that no registry takes, with the argument that mends each setting.
func TestInspectTellsDifferences(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t).Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.Config("registry_acme")
	cfg.MaxMsgsPerSubject, cfg.Discard = 5, jetstream.DiscardOld
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	i, err := Inspect(t.Context(), nc, "acme", "")
	flags := ""
	for _, one := range i.Differences {
		flags += one.Flag + " "
	}
	if want := "--max-msgs-per-subject=1 --discard=new"; err != nil ||
		strings.TrimSpace(flags) != want {
		t.Errorf("%q, %v", flags, err)
	}
	none, err := Inspect(t.Context(), nc, "other", "")
	if err != nil || none.Stream != nil || none.Account == nil {
		t.Errorf("%+v, %v", none, err)
	}
}
