package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// Invariant 8, and its limit: permissions do not restrict where a server sends its answers. Within
// one account, a hostile user of tenant acme that may use direct gets can make the server write a
// value of its own bucket to a key of tenant other. No role of this library may use direct gets. A
// reader tells such an answer from a registration and skips it, and the owner writes its key again.
// The other bucket can still be emptied, after which live instances return. Messages that consumers
// send there are no keys of the bucket. Seen to fail with answers that are taken for registrations,
// and with keys that are taken from the text after the bucket's name.
func TestAnswerThatIsSentIntoAnotherBucket(t *testing.T) {
	t.Parallel()
	access := roles(t)
	service := access[string(operator.RoleService)]
	service.Publish = append(service.Publish,
		"$JS.API.DIRECT.GET.KV_registry_acme.$KV.registry_acme.>")
	access[string(operator.RoleService)] = service
	g := passwords(t, access)
	root := g.as(t, "root")
	// a reaper would remove the forged keys before they are sent on
	openOn(t, root, kvregistry.Tenant("acme"), kvregistry.WithoutReaping())
	other := openOn(t, root, kvregistry.Tenant("other"))
	register(t, other, web("a"))
	observer := openOn(t, root, kvregistry.Tenant("other"))
	sees(t, observer, natstest.Soon, "web", "a")

	nc := g.as(t, string(operator.RoleService))
	forged := func(key string) []byte {
		return fmt.Appendf(nil,
			`{"format":1,"lease":%q,"owner":"evil"`+
				`,"instance":{"id":%q,"name":"web","address":"evil:1"}}`, inside.Lease(other).ID,
			key)
	}
	answer := func(id, to string) {
		t.Helper()
		if err := nc.PublishRequest(
			"$JS.API.DIRECT.GET.KV_registry_acme.$KV.registry_acme.svc.web."+id,
			"$KV.registry_other."+to, nil); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	send := func(header nats.Header, id, to string) {
		t.Helper()
		msg := nats.NewMsg("$KV.registry_acme.svc.web." + id)
		msg.Data, msg.Header = forged(strings.TrimPrefix(to, "svc.web.")), header
		if _, err := nc.RequestMsgWithContext(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
		answer(id, to)
	}
	streams, err := jetstream.New(root)
	must(t, err)
	acme, err := streams.Stream(t.Context(), "KV_registry_acme")
	must(t, err)
	// the write is not acknowledged, and an answer before the write is empty
	raw := func(id, to string) {
		t.Helper()
		subject := "$KV.registry_acme.svc.web." + id
		sendRaw(t, g, "NATS/1.0\r\nno colon here\r\n\r\n", subject,
			forged(strings.TrimPrefix(to, "svc.web.")))
		natstest.Eventually(t, natstest.Soon, func() error {
			info, err := acme.Info(t.Context(), jetstream.WithSubjectFilter(subject))
			if err == nil && info.State.Subjects[subject] == 0 {
				err = errors.New("not stored yet")
			}
			return err
		})
		answer(id, to)
	}
	watch, stop := context.WithCancel(t.Context())
	wrong := make(chan error, 1)
	go func() { // ends with watch
		for watch.Err() == nil {
			list, err := observer.GetServices(watch, "web")
			if watch.Err() == nil && (err != nil || len(list) != 1 || list[0].URL != web("a").URL) {
				select {
				case wrong <- fmt.Errorf("the look-up gave %v, %v", list, err):
				default:
				}
			}
			time.Sleep(time.Millisecond) // between two look-ups
		}
	}()
	stands := func(key string) error {
		e, err := bucket(t, root, "other").Get(t.Context(), key)
		if err == nil && string(e.Value()) == "" {
			err = errors.New("empty")
		}
		return err
	}
	// over an existing key
	send(nats.Header{}, "a", "svc.web.a")
	// a new instance
	send(nats.Header{}, "b", "svc.web.b")
	send(nats.Header{"KV-Operation": []string{"PURGE"}}, "c", "svc.web.a")        // its purge
	send(nats.Header{"Nats-Marker-Reason": []string{"MaxAge"}}, "d", "svc.web.a") // its expiry
	// it has reached the other bucket
	natstest.Eventually(t, natstest.Soon, func() error { return stands("svc.web.b") })
	// with an empty header in front of the server's
	send(nats.Header{"Nats-Stream": []string{""}}, "f", "svc.web.a")
	send(nats.Header{"Nats-Stream": []string{"KV_registry_other"}}, "g", "svc.web.g")
	raw("h", "svc.web.h")
	raw("i", "svc.web.a")
	natstest.Eventually(t, natstest.Soon, func() error {
		// an unreadable value
		if err := stands("svc.web.h"); err != nil && !strings.Contains(err.Error(), "headers") {
			return err
		}
		return nil
	})
	sentByConsumers(t, g, forged)
	// a rollup of the whole stream
	send(nats.Header{"Nats-Rollup": []string{"all"}}, "e", "svc.web.e")
	natstest.Eventually(t, natstest.Soon, func() error {
		return errors.Join(stands("svc.web.a"), stands("lease."+leaseOf(other)))
	})
	sees(t, observer, natstest.Soon, "web", "a")
	stop()
	select {
	case err := <-wrong:
		t.Error(err)
	default:
	}
}

// sentByConsumers makes consumers of acme's stream deliver to keys of tenant other. The messages
// reach the other stream with the subjects that they have in acme's, so they are no keys there.
func sentByConsumers(t *testing.T, g *guarded, forged func(string) []byte) {
	t.Helper()
	root, service := g.as(t, "root"), g.as(t, string(operator.RoleService))
	observer, err := jetstream.New(g.as(t, string(operator.RoleObserver)))
	must(t, err)
	streams, err := jetstream.New(root)
	must(t, err)
	other, err := streams.Stream(t.Context(), "KV_registry_other")
	must(t, err)
	keys := bucket(t, root, "other")
	arrived := func(id string) {
		t.Helper()
		natstest.Eventually(t, natstest.Soon, func() error {
			_, err := other.GetLastMsgForSubject(t.Context(), "$KV.registry_acme.svc.web."+id)
			return err
		})
		if e, err := keys.Get(t.Context(), "svc.web."+id); !errors.Is(err,
			jetstream.ErrKeyNotFound) {
			t.Errorf("a message from a consumer became key %s: %v, %v", id, e, err)
		}
	}
	push := func(id string) *jetstream.ConsumerInfo {
		t.Helper()
		// wait until it is stored
		_, err := service.RequestWithContext(t.Context(), "$KV.registry_acme.svc.web."+id,
			forged(id))
		must(t, err)
		c, err := observer.CreatePushConsumer(t.Context(), "KV_registry_acme",
			jetstream.ConsumerConfig{
				FilterSubject:  "$KV.registry_acme.svc.web." + id,
				DeliverSubject: "$KV.registry_other.svc.web." + id,
				AckPolicy:      jetstream.AckNonePolicy,
			})
		must(t, err)
		return c.CachedInfo()
	}
	// a bucket's subscription has a wildcard, but the server delivers to a subscription to exactly
	// the subject
	if push("unheard").PushBound {
		t.Error("a consumer is bound to a key without a subscription")
	}
	_, err = root.SubscribeSync("$KV.registry_other.svc.web.heard")
	must(t, err)
	must(t, root.Flush())
	if !push("heard").PushBound {
		t.Error("an observer can no longer learn the subscribers of a subject: docs/security.md " +
			"says that he can")
	}
	arrived("heard")

	if _, err := other.GetLastMsgForSubject(t.Context(),
		"$KV.registry_acme.svc.web.unheard"); !errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("a message without a subscriber was sent: %v", err)
	}
}

// sendRaw publishes a message with a given block of headers, which no client library would send.
func sendRaw(t *testing.T, g *guarded, headers, subject string, data []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(natstest.Soon))
	fmt.Fprintf(conn, "CONNECT "+
		`{"verbose":false,"headers":true,"user":"service","pass":"secret"}`+
		"\r\nHPUB %s %d %d\r\n%s%s\r\nPING\r\n",
		subject, len(headers), len(headers)+len(data), headers, data)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if lines.Text() == "PONG" {
			return
		}
	}
	t.Fatal("the server did not answer")
}

// Invariant 8, and its limit: an answer goes to any subject that the request names, even in another
// tenant's bucket. Such an answer is JSON without a header. No reader takes it for a registration,
// and no server for a rollup. docs/security.md says so. If this test fails, the server has learned
// to refuse it, or an answer does more.
func TestAnswersThatReachAnotherTenant(t *testing.T) {
	t.Parallel()
	for _, role := range operator.Roles() {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			g := passwords(t, roles(t))
			v := newVictim(t, g)
			h := newHostile(t, g, role)
			other, err := v.js.Stream(t.Context(), "KV_registry_other")
			must(t, err)
			n := 0
			for subject := range raw() {
				if !answered(role, subject) {
					continue
				}
				n++
				key := fmt.Sprint("$KV.registry_other.svc.web.answer", n)
				h.send(subject, key, `{"seq":1}`)
				natstest.Eventually(t, natstest.Soon, func() error {
					_, err := other.GetLastMsgForSubject(t.Context(), key)
					return err
				})
			}
			after := standing(t, v.js, "KV_registry_other")
			for _, line := range after[len(v.before):] {
				if !strings.Contains(line, ` map[] "{\"`) {
					t.Errorf("an answer is not JSON, or has a header: %s", line)
				}
			}
			if len(after) != len(v.before)+n || !slices.Equal(after[2:len(v.before)],
				v.before[2:]) {
				t.Errorf("after %d answers the bucket is %q, and was %q", n, after, v.before)
			}
			natstest.Eventually(t, natstest.Soon, func() error {
				if h := v.observer.Health(); h.Err != nil || h.Skipped != uint64(n) {
					return fmt.Errorf("of %d answers: %+v", n, h)
				}
				return nil
			})
			sees(t, v.observer, natstest.Soon, "web", "a")
		})
	}
}

// Invariant 8, and its limit: within one account, the subject of an answer may be a request, which
// the server then carries out if the answer is empty. No role can get such an answer, but each can
// fill another tenant's bucket with the answers that it gets. docs/security.md says so. If this
// test fails, the server has learned to refuse it, or a role can do more.
func TestWhatOneAccountCannotKeepApart(t *testing.T) {
	t.Parallel()
	g := passwords(t, roles(t))
	root := g.as(t, "root")
	openOn(t, root, kvregistry.Tenant("acme"), kvregistry.WithoutReaping())
	js, err := jetstream.New(root)
	must(t, err)
	must(t, operator.Provision(t.Context(), root, "other", tenant.Config{}))
	mine, err := jetstream.New(g.as(t, string(operator.RoleObserver)))
	must(t, err)
	if info, err := mine.AccountInfo(t.Context()); err != nil || info.Streams != 2 {
		t.Errorf("the account's totals are no longer told to a user of one tenant: %+v, %v", info,
			err)
	}
	for _, role := range readers {
		nc := g.as(t, string(role))
		for subject, may := range mayRaw {
			if !slices.Contains(may, role) || !strings.HasPrefix(subject, "$JS.API.") {
				continue
			}
			for _, ask := range []string{"", "{}", `{"seq":1}`,
				`{"last_by_subj":"$KV.registry_acme.>"}`} {
				must(t, nc.PublishRequest(subject, "$JS.API.STREAM.DELETE.KV_registry_other",
					[]byte(ask)))
				must(t, nc.PublishRequest(subject, "$JS.API.STREAM.PURGE.KV_registry_other",
					[]byte(ask)))
			}
		}
		must(t, nc.Flush())
		// comes after the requests before it
		_, err := nc.RequestWithContext(t.Context(), "$JS.API.STREAM.INFO.KV_registry_acme", nil)
		must(t, err)
	}
	time.Sleep(500 * time.Millisecond) // time for the server to do something wrong
	if _, err := js.Stream(t.Context(), "KV_registry_other"); err != nil {
		t.Errorf("a role reached another tenant's bucket: %v", err)
	}
}
