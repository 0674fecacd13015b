package main

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// The command purges what a dead process left in a tenant whose other processes do not reap, and
// gives its slot back when it is stopped. Seen to fail with a registry WithoutReaping.
func TestReaper(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	reg, err := kvregistry.New(t.Context(), s.Connect(), kvregistry.Tenant("acme"),
		kvregistry.TTL(2*time.Second),
		kvregistry.WithoutReaping())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	p := start(t, "reaper", "--server", s.URL(), "--tenant", "acme", "--ttl", "2s")
	p.says("ready: tenant acme\n", natstest.Soon)
	p.says("reaps: it holds a slot\n", natstest.Soon)
	dead, err := kvregistry.New(t.Context(), s.Connect(), kvregistry.Tenant("acme"),
		kvregistry.TTL(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dead.Register(kvregistry.Service{Name: "web",
		Address: "10.0.0.1:80"}); err != nil {
		t.Fatal(err)
	}
	if err := dead.Leave(t.Context()); err != nil { // its lease runs out
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if _, err := reg.GetService("web"); !errors.Is(err, kvregistry.ErrNotFound) {
			return errors.Join(errors.New("it is still there"), err)
		}
		return nil
	})
	p.signal(syscall.SIGTERM)
	if code := p.code(natstest.Soon); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.err.String())
	}
	b, err := tenant.New(s.Connect(), "acme", tenant.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, found, err := b.Get(t.Context(), tenant.SlotKey(0)); found || err != nil {
		t.Errorf("its slot is taken after the stop: %v", err)
	}
}
