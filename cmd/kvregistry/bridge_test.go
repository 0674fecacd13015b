package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// With --plain-creds alone, the plain processes use another account of the same server. Seen to
// fail with the default URL in place of the server's.
func TestBridgeToAnotherAccount(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	creds := filepath.Join(t.TempDir(), "plain.creds") // this server asks for none
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("-----BEGIN NATS USER JWT-----\neyJ\n------END NATS USER "+
		"JWT------\n-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n", seed)
	if err := os.WriteFile(creds, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "bridge", "--server", s.URL(), "--plain-creds", creds)
	p.says("ready: tenant default and the plain processes of registry\n", natstest.Soon)
	if n := s.Server().NumClients(); n != 2 {
		t.Errorf("%d connections, want one of each account", n)
	}
}

// The command joins a tenant with the plain processes of another server, and leaves all
// registrations as they are when it is stopped. Seen to fail without Plain, and with an end that
// closes the connection in place of the bridge.
func TestBridge(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	old := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
	p := start(t, "bridge", "--server", s.URL(), "--plain-server", old.URL(), "--tenant", "acme",
		"--prefix", "acme.services", "--ttl", "5s", "--interval", "1s")
	p.says("ready: tenant acme and the plain processes of acme.services\n", natstest.Soon)
	nc := old.Connect()
	heard, err := nc.SubscribeSync("acme.services.register.new")
	if err != nil {
		t.Fatal(err)
	}
	signs, err := nc.SubscribeSync("acme.services.bridge.acme")
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	reg, err := kvregistry.New(t.Context(), s.Connect(), kvregistry.Tenant("acme"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	if _, err := reg.Register(kvregistry.Service{Name: "new", Address: "10.0.0.1:80"}); err != nil {
		t.Fatal(err)
	}
	if m, err := heard.NextMsg(natstest.Soon); err != nil || !strings.Contains(string(m.Data),
		`"add":"10.0.0.1:80"`) {
		t.Errorf("plain processes hear %v, %v", m, err)
	}
	there := func() error {
		_, err := reg.GetService("old")
		return err
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if err := nc.Publish("acme.services.register.old",
			[]byte(`{"name":"old","add":"10.0.0.2:80"}`)); err != nil {
			t.Fatal(err)
		}
		return there()
	})
	p.signal(syscall.SIGTERM)
	if code := p.code(natstest.Soon); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.err.String())
	}
	if err := there(); err != nil {
		t.Error("after the stop:", err)
	}
	for leaving := false; !leaving; {
		m, err := signs.NextMsg(natstest.Soon)
		if err != nil {
			t.Fatal("other bridges are not told of the stop:", err)
		}
		leaving = strings.Contains(string(m.Data), `"leaving":true`)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if err := there(); !errors.Is(err, kvregistry.ErrNotFound) {
			return fmt.Errorf("%v: it stays longer than the lease", err)
		}
		return nil
	})
}
