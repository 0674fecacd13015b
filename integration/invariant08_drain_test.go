package integration

import (
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant/operator"
)

// An operator has the owners of each role drain an instance, and hears their answers: each role
// that registers may answer it. Seen to fail without the subjects of answers.
func TestRemoteDrainByRole(t *testing.T) {
	t.Parallel()
	for how, guard := range authentications {
		t.Run(how, func(t *testing.T) {
			longUnlessCommon(t, how)
			t.Parallel()
			g := guard(t, roles(t))
			adminMakesTheBucket(t, g)
			asks := g.as(t, string(operator.RoleOperator))
			observer := openOn(t, asks, kvregistry.Tenant("acme"))
			for _, role := range writers {
				owner := openOn(t, g.as(t, string(role)), kvregistry.Tenant("acme"))
				register(t, owner, web(string(role)))
				sees(t, observer, natstest.Soon, "web", string(role))
				drainsRemotely(t, asks, observer, string(role))
				sees(t, observer, natstest.Soon, "web")
			}
		})
	}
}

// drainsRemotely asks the owner of an instance of "web" to drain it, and waits for both answers.
func drainsRemotely(t *testing.T, nc *nats.Conn, r *kvregistry.Registry, id string) {
	t.Helper()
	one, err := r.GetService("web")
	must(t, err)
	leases, err := r.Leases(t.Context())
	must(t, err)
	i := slices.IndexFunc(leases, func(l kvregistry.Lease) bool { return l.ID == one.Lease })
	if i < 0 || one.ID != id {
		t.Fatalf("%+v has none of %+v", one, leases)
	}
	answers, err := nc.SubscribeSync(wire.AnswerSubject(nc.Opts.InboxPrefix + ".x"))
	must(t, err)
	must(t, nc.PublishRequest(leases[i].Control, answers.Subject, wire.DrainRequest("web", id)))
	for _, want := range []wire.State{wire.Draining, wire.Drained} {
		msg, err := answers.NextMsg(natstest.Soon)
		must(t, err)
		if got, ok := wire.ReadAnswer(msg.Data); !ok || got.State != want {
			t.Errorf("the owner %s says %q, want %s", id, msg.Data, want)
		}
	}
	must(t, answers.Unsubscribe())
}
