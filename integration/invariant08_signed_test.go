package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 8: within a tenant, a process can't pose as a service whose signers it does not belong
// to, even with bytes that were signed. Observers that know the signers do not show its records,
// and they fence no owner. Seen to fail without a check of signatures, with a signature of the
// instance alone, and with an instance that is read from a document that has it twice.
func TestSignedRegistrations(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	mine, _, minePublic := userKey(t)
	other, _, otherPublic := userKey(t)
	trust := kvregistry.TrustSigners("web", minePublic)
	fenced := make(chan kvregistry.Service, 10)
	owner := open(t, s, kvregistry.SignWith(mine), trust,
		kvregistry.OnFenced(func(s kvregistry.Service) { fenced <- s }))
	var mu sync.Mutex
	var shown []kvregistry.Service // what the observer shows without a trusted signature
	observer := open(t, s, trust, kvregistry.OnEvent(func(e kvregistry.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Service.Name == "web" && (e.Service.Address != "" || e.Service.URL != web("a").URL) {
			shown = append(shown, e.Service)
		}
	}))
	register(t, owner, web("a"))
	sees(t, observer, natstest.Soon, "web", "a")
	if err := owner.SetStatus("web", kvregistry.Warning); err != nil {
		t.Fatal(err)
	}

	kv := bucket(t, s.Connect(), "default")
	e, err := kv.Get(t.Context(), "svc.web.a")
	if err != nil {
		t.Fatal(err)
	}
	original := string(e.Value())
	edit := func(from, to string) string {
		if !strings.Contains(original, from) {
			t.Fatalf("%s is not in %s", from, original)
		}
		return strings.Replace(original, from, to, 1)
	}
	lease := inside.Lease(owner).ID
	// the part that is read was signed
	holds := map[string]bool{"an instance before": true, "an instance in capitals": true}
	for what, write := range map[string]struct{ key, value string }{
		"another key": {"svc.web.b", edit(`"id":"a"`, `"id":"b"`)},
		"a key of its own": {"svc.web.c",
			fmt.Sprintf(`{"format":1,"lease":%q,"owner":"x"`+
				`,"instance":{"id":"c","name":"web","address":"evil:1"}}`, lease)},
		"another address": {"svc.web.a", edit(`http://127.0.0.1:8083`, `http://evil`)},
		"another owner":   {"svc.web.a", edit(`"owner":"`, `"owner":"x`)},
		"another lease":   {"svc.web.a", edit(`"lease":"`, `"lease":"X`)},
		"another signer":  {"svc.web.a", edit(minePublic, otherPublic)},
		"no signature":    {"svc.web.a", edit(`"signature"`, `"unsigned"`)},
		"a newer format":  {"svc.web.a", edit(`"format":1`, `"format":2`)},
		"an instance before": {"svc.web.a", edit(`"instance":`,
			`"instance":{"address":"evil:1"},"instance":`)},
		"an instance in capitals": {"svc.web.a", edit(`"instance":`,
			`"INSTANCE":{"address":"evil:1"},"instance":`)},
		"an instance behind": {"svc.web.a", edit(`"signer"`,
			`"instance":{"address":"evil:1"},"signer"`)},
	} {
		rev, err := kv.PutString(t.Context(), write.key, write.value)
		if err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, natstest.Soon, func() error { // the owner writes its record again
			if holds[what] {
				snap, err := observer.Snapshot("web")
				if err == nil && snap.Revision() < rev {
					err = fmt.Errorf("%s: the record is not seen", what)
				}
				return err
			}
			if e, err := kv.Get(t.Context(), write.key); write.key == "svc.web.a" &&
				(err != nil || !strings.Contains(string(e.Value()), web("a").URL) ||
					string(e.Value()) == write.value) {
				return fmt.Errorf("%s: the record is still there: %v", what, err)
			}
			return nil
		})
		list, err := observer.GetServices(t.Context(), "web",
			kvregistry.WithStatus(kvregistry.Warning, kvregistry.Passing))
		mu.Lock()
		if err != nil || len(list) != 1 || len(shown) > 0 {
			t.Errorf("%s: the observer shows %+v, %v, and showed %+v", what, list, err, shown)
		}
		shown = nil
		mu.Unlock()
	}
	select {
	case s := <-fenced:
		t.Errorf("an unsigned record fenced the owner: %+v", s)
	default:
	}

	impostor := open(t, s, kvregistry.SignWith(other))
	register(t, impostor, web("imposed"))
	register(t, impostor, kvregistry.Service{Name: "api", ID: "a", Address: "a:1"})
	sees(t, observer, natstest.Soon, "api", "a") // no signers are given for this service
	if got := ids(t, observer, "web"); len(got) != 1 {
		t.Errorf("the observer shows %v", got)
	}
	if n := observer.Health().Skipped; n < 3 {
		t.Errorf("%d skipped", n)
	}
	if _, err := open(t, s, trust).Register(web("d")); !isErr(err, kvregistry.ErrInvalidService) {
		t.Errorf("a registration that its own registry does not trust gave %v", err)
	}
	everything := open(t, s, kvregistry.TrustSigners(kvregistry.Everything, minePublic))
	if _, err := everything.GetServices(t.Context(), "api"); !isErr(err, kvregistry.ErrNotFound) {
		t.Errorf("a service without a given signer gave %v", err)
	}
	takesOver(t, s, mine, trust, fenced)
}

// takesOver checks that a newer registration by a trusted signer fences the owner.
func takesOver(t *testing.T, s *natstest.Server, by nkeys.KeyPair, trust kvregistry.Option,
	fenced <-chan kvregistry.Service) {
	t.Helper()
	register(t, open(t, s, kvregistry.SignWith(by), trust), web("a"))
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
	defer cancel()
	select {
	case <-fenced:
	case <-ctx.Done():
		t.Error("the first owner was not told")
	}
}

// A text that is no public key is refused, and a seed is never printed.
func TestSignersAreChecked(t *testing.T) {
	nc := natstest.Start(t).Connect()
	_, seed, public := userKey(t)
	last := "A"
	if strings.HasSuffix(public, last) {
		last = "B"
	}
	for _, opt := range []kvregistry.Option{
		kvregistry.TrustSigners("web"), kvregistry.TrustSigners("", public),
		kvregistry.TrustSigners("web", string(seed)), kvregistry.TrustSigners("web", "U"),
		kvregistry.TrustSigners("web", public[:55]+last), kvregistry.SignWith(nil),
	} {
		_, err := kvregistry.New(t.Context(), nc, opt, quiet())
		if !isErr(err, kvregistry.ErrInvalidOption) || strings.Contains(err.Error(), string(seed)) {
			t.Errorf("%v", err)
		}
	}
}

// Invariant 8: a process without the signing key can't keep a dead process's signed registration in
// view, with any value of the lease or the registration's key. A lease without a TTL, with a long
// one, or that this process renews does not keep it either. Seen to fail with reapers that take any
// value of a lease's key for a renewal.
func TestDeadSignedRegistrationIsNotKept(t *testing.T) {
	t.Parallel()
	for _, life := range []string{"", "3600s", "2s"} {
		for _, early := range []bool{true, false} {
			t.Run(fmt.Sprintf("TTL %q, early %t", life, early), func(t *testing.T) {
				t.Parallel()
				s := natstest.Start(t)
				nc := s.Connect()
				pair, _, public := userKey(t)
				trust := kvregistry.TrustSigners("web", public)
				observer := open(t, s, trust)
				sees(t, observer, natstest.Soon, "web")
				owner := open(t, s, trust, kvregistry.SignWith(pair), kvregistry.WithoutReaping())
				register(t, owner, web("dead"))
				sees(t, observer, natstest.Soon, "web", "dead")
				kv := bucket(t, nc, kvregistry.DefaultTenant)
				copies := map[string][]byte{}
				lease := "lease." + leaseOf(owner)
				for _, key := range []string{lease, "svc.web.dead"} {
					e, err := kv.Get(t.Context(), key)
					must(t, err)
					copies[key] = e.Value()
				}
				must(t, owner.Leave(t.Context()))
				if !early {
					sees(t, observer, 30*time.Second, "web")
				}
				put := func(key, ttl string) {
					msg := nats.NewMsg("$KV.registry_default." + key)
					if msg.Data = copies[key]; ttl != "" {
						msg.Header.Set("Nats-TTL", ttl)
					}
					_, err := nc.RequestMsgWithContext(t.Context(), msg)
					must(t, err)
				}
				put(lease, life)
				put("svc.web.dead", "")
				sees(t, observer, natstest.Soon, "web", "dead")
				natstest.Eventually(t, 45*time.Second, func() error {
					put(lease, life)
					if got := ids(t, observer, "web"); len(got) > 0 {
						return fmt.Errorf("the dead instance is shown: %v", got)
					}
					return nil
				})
			})
		}
	}
}
