package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant/operator"
)

// Invariant 8: with a role's permissions, a raw connection changes nothing of another tenant in the
// account. It tries requests whose answers go there, pull consumers, and push consumers that
// deliver there. It does not try what no permission prevents: see TestAnswersThatReachAnotherTenant
// and TestConsumerThatDeliversToAnotherTenant. Seen to fail with roles that may send to
// $JS.API.CONSUMER.MSG.NEXT: the other bucket was empty. Seen to fail with roles that may send to
// $JS.ACK alone, which can ask for the next message too. With nats-server 2.15.2, the requests to a
// lenient server, which takes JSON with unknown members, emptied the other bucket.
func TestRawRequestsReachNoOtherTenant(t *testing.T) {
	t.Parallel()
	for _, role := range operator.Roles() {
		for name, attempt := range map[string]func(*hostile){
			"requests":               (*hostile).requests,
			"requests, lenient":      (*hostile).requests,
			"settings of its stream": (*hostile).settings,
			"push consumers":         (*hostile).pushes,
			"entries to its keys":    func(h *hostile) { h.pulls(otherKey) },
			"answers that purge":     func(h *hostile) { h.pulls(otherPurge) },
			"answers that delete":    func(h *hostile) { h.pulls(otherDelete) },
			"the end of its stream":  (*hostile).end,
		} {
			t.Run(fmt.Sprint(role, "/", name), func(t *testing.T) {
				t.Parallel()
				guard := passwords
				if strings.HasSuffix(name, "lenient") {
					guard = lenient
				}
				g := guard(t, roles(t))
				v := newVictim(t, g)
				h := newHostile(t, g, role)
				stores(t, g)
				attempt(h)
				h.settle()
				v.isAsItWas()
			})
		}
	}
}

// Invariant 8: no push consumer delivers to a request of JetStream, neither a new one nor one that
// is changed. An idle heartbeat is an empty request, which would purge or delete another tenant's
// stream. This fails with nats-server 2.15.2, which grants such a consumer.
func TestConsumerDeliversToNoRequest(t *testing.T) {
	t.Parallel()
	for _, role := range readers {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			g := passwords(t, roles(t))
			v := newVictim(t, g)
			h := newHostile(t, g, role)
			config := jetstream.ConsumerConfig{Name: "view-x",
				IdleHeartbeat: 100 * time.Millisecond}
			for _, target := range []string{
				otherPurge, otherDelete, "$JS.ACK.KV_registry_other.x.1.1.1.1.1",
				"$JS.FC.KV_registry_other.x.y", "$JS.hub.API.STREAM.PURGE.KV_registry_other",
			} {
				config.DeliverSubject = target
				if h.creates(config) {
					t.Errorf("a consumer was granted that delivers to %s", target)
				}
				config.DeliverSubject = h.nc.NewInbox()
				if !h.creates(config) {
					t.Error("a consumer that delivers to its creator was not granted")
				}
				config.DeliverSubject = target
				if h.creates(config) {
					t.Errorf("a consumer was changed to deliver to %s", target)
				}
			}
			h.settle()
			v.isAsItWas()
		})
	}
}

// Invariant 8, and its limit: a push consumer delivers to another tenant if its deliver subject is
// changed in time. While the server holds a message back, it keeps the consumer active, finds the
// bucket's wildcard, and sends on. A user that writes to its own bucket can so empty another one by
// a rollup. docs/security.md says so. If this test fails, the server has learned to refuse it.
func TestConsumerThatDeliversToAnotherTenant(t *testing.T) {
	natstest.Long(t)
	t.Parallel()
	for _, role := range writers {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			g := passwords(t, roles(t))
			v := newVictim(t, g)
			newHostile(t, g, role).redirects(func() bool {
				_, err := v.js.Stream(t.Context(), "KV_registry_other")
				held := standing(t, v.js, "KV_registry_other")
				return err == nil && !slices.ContainsFunc(held, func(line string) bool {
					return strings.Contains(line, " $KV.registry_other.svc.web.a ")
				})
			})
		})
	}
}
