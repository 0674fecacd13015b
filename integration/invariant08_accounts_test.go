package integration

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant/operator"
)

// accounts starts a server with one account per tenant. Each account has a user of the tenant's
// name.
func accounts(t *testing.T, maxBytes int64, tenants ...string) *natstest.Server {
	t.Helper()
	text := "accounts: {\n"
	for _, name := range tenants {
		account, err := operator.AccountConfig(name, operator.AccountLimits{MaxBytes: maxBytes,
			Replicas: 1, Connections: 8}, fmt.Sprintf("user: %s, password: p", name))
		if err != nil {
			t.Fatal(err)
		}
		text += account
	}
	opts := natstest.Configured(t, text+"}\n")
	return natstest.Start(t, func(o *server.Options) {
		// not 10,000, so that a small machine can bear the flood
		o.Accounts, o.Users, o.JetStreamRequestQueueLimit = opts.Accounts, opts.Users, 1000
	})
}

// crowd makes an account use all its connections and consumers.
func crowd(t *testing.T, s *natstest.Server, hostile *nats.Conn) {
	t.Helper()
	for n := 0; ; n++ {
		nc, err := nats.Connect(s.URL(), nats.UserInfo("acme", "p"))
		if err != nil {
			break
		}
		defer nc.Close()
		if n > 8 {
			t.Fatal("more connections than the account may have")
		}
	}
	js, err := jetstream.New(hostile)
	must(t, err)
	for n := 0; ; n++ {
		if _, err := js.CreateConsumer(t.Context(), "KV_registry_acme",
			jetstream.ConsumerConfig{InactiveThreshold: time.Minute}); err != nil {
			break
		}
		if n > 40 {
			t.Fatal("more consumers than the account may have")
		}
	}
}

// besieged makes one account send the server more requests at once than the server queues. For two
// TTLs the server then drops requests of all accounts. Meanwhile the other account's owner
// registers and keeps its lease, and its observer goes on. An observer whose first look-up comes
// during the flood succeeds after it.
func besieged(t *testing.T, hostile, victim *nats.Conn, owner, observer *kvregistry.Registry) {
	t.Helper()
	lease := inside.Lease(owner)
	events, err := observer.Watch(t.Context(), "web")
	must(t, err)
	awaitEvent(t, events, "a", kvregistry.Registered)
	late := openOn(t, victim, kvregistry.Tenant("other"))
	calm := registers(t, owner, time.Now().Add(ttl/2))
	began := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() { // ends when all is sent
		for n := range 20000 {
			if n%2000 == 1999 {
				time.Sleep(4 * ttl / 10) // makes the flood last
			}
			_ = hostile.PublishRequest("$JS.API.STREAM.INFO.KV_registry_acme", "_INBOX.flood", nil)
		}
	})
	must(t, late.Observe("web"))
	hurt := registers(t, owner, began.Add(4*ttl))
	wg.Wait()
	sees(t, observer, natstest.Soon, "web", "a", "c")
	natstest.Eventually(t, natstest.Soon, func() error {
		list, err := late.GetServices(t.Context(), "web")
		if err == nil && len(list) != 2 {
			err = fmt.Errorf("the look-up shows %v", list)
		}
		return err
	})
	if inside.Lease(owner) != lease || lease.Err() != nil {
		t.Errorf("the lease was lost: %v", lease.Err())
	}
	if told := toldOf(events, "a"); len(told) > 0 {
		t.Errorf("the live instance was %v", told)
	}
	t.Logf("a registration took %s at the median and %s at most, during the flood %s and %s",
		calm[len(calm)/2], calm[len(calm)-1], hurt[len(hurt)/2], hurt[len(hurt)-1])
}

// registers registers and unregisters an instance again and again. It returns how long the
// registrations took, sorted.
func registers(t *testing.T, owner *kvregistry.Registry, until time.Time) (took []time.Duration) {
	t.Helper()
	for n := 0; n == 0 || time.Now().Before(until); n++ {
		began := time.Now()
		unregister := register(t, owner, kvregistry.Service{Name: "measured", ID: fmt.Sprint(n),
			Address: "a:1"})
		took = append(took, time.Since(began))
		must(t, unregister())
		time.Sleep(10 * time.Millisecond) // between two of them
	}
	slices.Sort(took)
	return took
}

// Invariant 8: tenants with an account each can't reach each other, even with hostile code. The
// requests that succeed within one account do nothing here. The names and the storage of the other
// account are out of reach. The accounts share the server's time, and leases outlast a flood of
// requests. Seen to fail, on a busy machine, with heartbeats that ask the JetStream API first.
func TestAccountPerTenant(t *testing.T) {
	t.Parallel()
	s := accounts(t, 4<<20, "acme", "other")
	hostile, victim := s.Connect(nats.UserInfo("acme", "p")), s.Connect(nats.UserInfo("other", "p"))
	owner := openOn(t, victim, kvregistry.Tenant("other"), kvregistry.MaxBytes(2<<20),
		kvregistry.TTL(2*ttl))
	register(t, owner, web("a"))
	observer := openOn(t, victim, kvregistry.Tenant("other"))
	sees(t, observer, natstest.Soon, "web", "a")

	acme := openOn(t, hostile, kvregistry.Tenant("acme"), kvregistry.MaxBytes(2<<20))
	register(t, acme, web("b"))
	everything, err := hostile.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket(t, hostile, "acme").Put(t.Context(), "empty", nil); err != nil {
		t.Fatal(err)
	}
	for _, reply := range []string{
		"$KV.registry_other.svc.web.a", "$KV.registry_other.sweep",
		"$KV.registry_other.svc.web.new",
		"$JS.API.STREAM.DELETE.KV_registry_other", "$JS.API.STREAM.PURGE.KV_registry_other",
	} {
		const get = "$JS.API.DIRECT.GET.KV_registry_acme.$KV.registry_acme."
		for _, subject := range []string{
			get + "empty", get + "svc.web.b", "$JS.API.STREAM.INFO.KV_registry_acme",
		} {
			if err := hostile.PublishRequest(subject, reply, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for subject := range raw() {
		if strings.Contains(subject, "acme") {
			continue // its own stream
		}
		if err := hostile.PublishRequest(subject, "$KV.registry_other.svc.web.a",
			[]byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	js, err := jetstream.New(hostile)
	if err != nil {
		t.Fatal(err)
	}
	for name := range js.StreamNames(t.Context()).Name() {
		if name == "KV_registry_other" {
			t.Error("another account's stream is listed")
		}
	}
	for _, name := range []string{"registry_other", "other"} {
		if _, err := js.KeyValue(t.Context(), name); err == nil {
			t.Errorf("bucket %s of another account is visible", name)
		}
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "more",
		Subjects: []string{"more"}}); err == nil {
		t.Error("a second stream was made, beyond the account's limit")
	}
	kv, err := js.KeyValue(t.Context(), "registry_acme")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; err == nil; i++ { // fills its own storage
		_, err = kv.Put(t.Context(), fmt.Sprintf("junk.%d", i), make([]byte, 32<<10))
	}
	crowd(t, s, hostile)
	register(t, owner, web("c"))
	sees(t, observer, natstest.Soon, "web", "a", "c")
	if got := keys(t, victim, "other", "svc."); !slices.Equal(got,
		[]string{"svc.web.a", "svc.web.c"}) {
		t.Errorf("the other bucket has %v", got)
	}
	for {
		msg, err := everything.NextMsg(100 * time.Millisecond)
		if err != nil {
			break
		}
		if string(msg.Data) != "" && msg.Subject == "$KV.registry_other.svc.web.c" {
			t.Errorf("another account's write was seen: %s", msg.Subject)
		}
	}
	must(t, everything.Unsubscribe())
	besieged(t, hostile, victim, owner, observer)
}
