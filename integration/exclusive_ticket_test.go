package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// ticketOf returns the key of the ticket that holds a name.
func ticketOf(t *testing.T, nc *nats.Conn, name string) (first string) {
	t.Helper()
	var place uint64
	for _, key := range keys(t, nc, kvregistry.DefaultTenant, "lock."+name+".") {
		e, err := bucket(t, nc, kvregistry.DefaultTenant).Get(t.Context(), key)
		must(t, err)
		if place == 0 || e.Revision() < place {
			first, place = key, e.Revision()
		}
	}
	return first
}

// Values that are no ticket block no line, and a ticket whose lease never existed blocks it only
// until it is swept. Seen to fail with lines in which every key has a place.
func TestLineOfOddKeys(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	kv := bucket(t, s.Connect(), kvregistry.DefaultTenant)
	for i, value := range []string{"", "\xff", "{}", "null", `{"format":1}`,
		`{"format":1,"lease":"a.b"}`, `{"format":2}`, strings.Repeat("x", 10_000)} {
		_, err := kv.PutString(t.Context(), fmt.Sprintf("lock.job.%d", i), value)
		must(t, err)
	}
	must(t, exclusive(t, r, "job", natstest.Soon).Close())
	_, err := kv.PutString(t.Context(), "lock.job.dead", `{"format":1,"lease":"NEVER"}`)
	must(t, err)
	must(t, exclusive(t, r, "job", natstest.Soon).Close())
}

// A ticket and a registration of a process with a newer format end with its lease. The ticket
// locked a name. Seen to fail with reapers that ignore other formats.
func TestNewerFormatEndsWithItsLease(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	nc := s.Connect()
	lives := openOn(t, nc)
	register(t, lives, web("a"))
	kv := bucket(t, nc, kvregistry.DefaultTenant)
	for key, value := range map[string]string{
		"lock.job.dead": `{"place":1,"lease":"DEAD1","owner":{"id":7},"format":2}`,
		"svc.web.dead":  `{"format":3.0,"lease":"DEAD2","instances":[]}`,
		"svc.web.lives": `{"format":2,"lease":"` + leaseOf(lives) + `"}`,
	} {
		_, err := kv.PutString(t.Context(), key, value)
		must(t, err)
	}
	must(t, exclusive(t, r, "job", 30*time.Second).Close())
	natstest.Eventually(t, 2*natstest.Soon, func() error {
		if _, err := kv.Get(t.Context(), "svc.web.dead"); err == nil {
			return errStill
		}
		return nil
	})
	if _, err := kv.Get(t.Context(), "svc.web.lives"); err != nil {
		t.Errorf("a ticket with a live lease gave %v", err)
	}
}

// A ticket that its process removed, and that a killed server brings back, is removed again. Seen
// to fail with lines that do not look for strays: the live lease of the process kept the ticket for
// ever.
func TestTicketThatComesBack(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	r, other := open(t, s, patient()), open(t, s, patient())
	h := exclusive(t, r, "job", natstest.Soon)
	kv := bucket(t, nc, kvregistry.DefaultTenant)
	key := ticketOf(t, nc, "job")
	e, err := kv.Get(t.Context(), key)
	must(t, err)
	must(t, h.Close())
	_, err = kv.Put(t.Context(), key, e.Value())
	must(t, err)
	must(t, exclusive(t, other, "job", natstest.Soon).Close())
}

// A process that loses the permission to remove its ticket is told so. It removes the ticket as
// soon as the permission is back, because no reaper ends a ticket with a live lease. Seen to fail
// with a refusal that is final: the line stood still for as long as that process lived.
func TestTicketThatMayNotBeRemoved(t *testing.T) {
	t.Parallel()
	users := func(perms string) string {
		return fmt.Sprintf("authorization { users: [ { user: u, password: p, permissions: { %s } "+
			"}, { user: admin, password: p } ] }\n", perms)
	}
	const all = `publish: ">", subscribe: ">"`
	s := startReloading(t, users(all))
	admin := s.Connect(nats.UserInfo("admin", "p"))
	r, next := openOn(t, s.Connect(nats.UserInfo("u", "p")), patient()), openOn(t, admin, patient())
	h := exclusive(t, r, "job", natstest.Soon)
	got := make(chan granted, 1)
	lineUp(t, admin, next, "job", 0, got)
	s.reload(users(`publish: { deny: "$KV.registry_default.lock.>" }`))
	if err := h.Release(t.Context()); !errors.Is(err, kvregistry.ErrPermission) {
		t.Errorf("a release without permission gave %v", err)
	}
	s.reload(users(all))
	within(t, got, tenant.RefusedTime+natstest.Soon)
}
