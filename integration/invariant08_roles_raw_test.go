package integration

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant/operator"
)

// requests lists the JetStream requests about a stream, by the text after the stream's name.
var requests = map[string][]string{
	"":        natstest.StreamRequests,
	".reaper": natstest.ConsumerRequests,
	".view-x": {"CONSUMER.CREATE", "CONSUMER.DELETE", "CONSUMER.INFO",
		"CONSUMER.MSG.NEXT", "CONSUMER.DURABLE.CREATE", "CONSUMER.PAUSE"},
	".view-x.$KV.registry_other.svc.>":  {"CONSUMER.CREATE"},
	".$KV.registry_other.svc.web.a":     {"DIRECT.GET"},
	".$KV.registry_acme.svc.web.a":      {"DIRECT.GET"},
	".reaper.$KV.registry_acme.lease.>": {"CONSUMER.CREATE"},
}

// mayRaw lists the raw requests that roles may make in their own tenant. An admin makes and deletes
// the bucket; for the other requests the list says what they are for.
var mayRaw = map[string][]operator.Role{
	"$JS.API.INFO":                                    operator.Roles(),
	"$JS.API.STREAM.INFO.KV_registry_acme":            operator.Roles(),
	"$JS.API.STREAM.CREATE.KV_registry_acme":          {operator.RoleAdmin},
	"$JS.API.STREAM.UPDATE.KV_registry_acme":          {operator.RoleAdmin},
	"$JS.API.STREAM.DELETE.KV_registry_acme":          {operator.RoleAdmin},
	"$JS.API.STREAM.MSG.GET.KV_registry_acme":         readers,
	"$JS.API.CONSUMER.CREATE.KV_registry_acme.view-x": readers,
	// the stream does not have it
	"$JS.API.CONSUMER.CREATE.KV_registry_acme.view-x.$KV.registry_other.svc.>":  readers,
	"$JS.API.CONSUMER.DELETE.KV_registry_acme.view-x":                           readers,
	"$JS.FC.KV_registry_acme.view-x.y":                                          readers,
	"$JS.FC.hub.HASH.KV_registry_acme.view-x.y":                                 readers,
	"$JS.API.CONSUMER.CREATE.KV_registry_acme.reaper":                           readers,
	"$JS.API.CONSUMER.CREATE.KV_registry_acme.reaper.$KV.registry_acme.lease.>": readers,
	"$JS.API.CONSUMER.DELETE.KV_registry_acme.reaper":                           readers,
	"$KV.registry_acme.svc.web.x":                                               writers,
	"$KV.registry_acme.svc.a=2Eb.x":                                             writers,
	"$KV.registry_acme.svc.other.x":                                             anyOnes,
	// it is no ticket, and has no place in line
	"$KV.registry_acme.lock.web.x":   writers,
	"$KV.registry_acme.lock.other.x": anyOnes,
	"$KV.registry_acme.reaper.0":     anyOnes,
	"$KV.registry_acme.reaper.1":     anyOnes,
	"$KV.registry_acme.lease.x":      writers,
	// asks the owner of a lease, and answers
	"_INBOX_acme.somebody.x.control": {operator.RoleOperator},
	"_INBOX_acme.somebody.x.answer":  writers,
}

// raw returns raw requests and the roles that may make them: the JetStream requests about the
// tenant's stream and others, requests that reach everything, and requests that look like allowed
// ones.
func raw() map[string][]operator.Role {
	all := map[string][]operator.Role{}
	for _, stream := range []string{"KV_registry_acme", "KV_registry_other", "KV_registry_acme2",
		"mine"} {
		for after, ops := range requests {
			for _, op := range ops {
				all["$JS.API."+op+"."+stream+after] = nil
				all["$JS.hub.API."+op+"."+stream+after] = nil
			}
		}
	}
	for _, subject := range []string{
		"$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.ACCOUNT.PURGE.$G",
		"$JS.API.META.LEADER.STEPDOWN", "$JS.API.SERVER.REMOVE", "$JS.hub.API.INFO",
		"$JS.API.ACCOUNT.STREAM.MOVE.$G.KV_registry_other",
		"$JS.ACK.KV_registry_other.reaper.1.1.1.1.1",
		"$JS.ACK.KV_registry_other.reaper.KV_registry_acme.reaper.1.1.1",
		"$JS.ACK.hub.HASH.KV_registry_other.reaper.1.1.1.1.1",
		"$JS.ACK.KV_registry_acme.reaper", "$JS.ACK.KV_registry_acme.reaper.9.9.9.9.9",
		"$JS.ACK.hub.HASH.KV_registry_acme.reaper.9.9.9.9.9",
		"$JS.ACK.KV_registry_acme.view-x.1.1.1.1.1",
		"$JS.FC.KV_registry_other.x.y", "$JS.FC.hub.HASH.KV_registry_other.x.y",
		"$JS.FC.KV_registry_other.KV_registry_acme.y",
		"$JS.SNAPSHOT.RESTORE.KV_registry_other.x", "$JS.SNAPSHOT.ACK.KV_registry_other.x",
		"$KV.registry_other.svc.web.a", "$KV.registry_other.lease.a", "$KV.registry_other.reaper.0",
		"$KV.registry_acme.sweep", "$KV.registry_acme.reaper.2", "$KV.registry_acme.anything",
		"$KV.registry_acme.lease.a.b",
		"$KV.registry_acme.lock.web", "$KV.registry_acme.lock.web.a.b",
		"$KV.registry_other.lock.web.a",
		"$KV.registry_acme.svc", "$KV.registry_acme", "$KV.registry_acme2.svc.web.a",
		"$KV.Registry_acme.svc.web.a", "$KV.registry_acme.SVC.web.a",
		"$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.$G.CONNZ", "_INBOX.somebody.1",
		"_INBOX_acme.somebody.1", "_INBOX_other.somebody.1", "_INBOX_acme.somebody.x.1",
		"_INBOX_acme.somebody.control", "_INBOX_acme.somebody.x.y.control",
		"_INBOX_other.somebody.x.control", "_INBOX_other.somebody.x.answer",
		"_INBOX_acme2.somebody.x.control", "_INBOX.x.control", "_INBOX.x.answer", "anything",
	} {
		all[subject] = nil
	}
	for subject, may := range mayRaw {
		all[subject] = may
	}
	return all
}

// refusals collects the subjects that a connection is refused.
type refusals struct {
	mu   sync.Mutex
	list []string
}

func (r *refusals) handler() nats.Option {
	return nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.list = append(r.list, err.Error())
	})
}

func (r *refusals) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

func (r *refusals) has(subject string) bool {
	return slices.ContainsFunc(r.all(),
		func(v string) bool { return strings.Contains(v, `"`+subject+`"`) })
}

// refusesRaw checks that the server refuses a role the raw requests that it may not make, and no
// others.
func refusesRaw(t *testing.T, g *guarded, role operator.Role) {
	t.Helper()
	refused := &refusals{}
	nc := g.as(t, string(role), refused.handler())
	var others []string
	for user, a := range g.access {
		if user != string(role) {
			others = append(others, a.Inbox+".>")
		}
	}
	for _, subject := range append(others, ">", "_INBOX.>", "_INBOX_acme.>", "_INBOX_acme.*.>",
		"$KV.>", "$KV.registry_acme.>", "$KV.registry_other.>", "$JS.API.>", "$JS.EVENT.>",
		"$JS.ACK.>", "$SYS.>", "*") {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			if !refused.has(subject) {
				return fmt.Errorf("%s may subscribe to %s", role, subject)
			}
			return nil
		})
	}
	all := raw()
	publish := func(allowed bool) {
		for subject, may := range all {
			if slices.Contains(may, role) == allowed {
				// does nothing if it is allowed
				must(t, nc.Publish(subject, []byte("no JSON")))
			}
		}
	}
	publish(true)
	publish(false) // the server answers these after the earlier ones
	must(t, nc.Flush())
	natstest.Eventually(t, natstest.Soon, func() error {
		for subject, may := range all {
			if !slices.Contains(may, role) && !refused.has(subject) {
				return fmt.Errorf("%s may publish to %s", role, subject)
			}
		}
		return nil
	})
	for subject, may := range all {
		if slices.Contains(may, role) && refused.has(subject) {
			t.Errorf("%s may not publish to %s", role, subject)
		}
	}
}
