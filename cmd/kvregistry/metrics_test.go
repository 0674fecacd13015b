package main

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant/operator"
)

// scrapes waits until the program's metrics have some lines.
func (p *program) scrapes(lines ...string) {
	p.t.Helper()
	p.says("metrics: http://127.0.0.1:", natstest.Soon)
	_, url, _ := strings.Cut(p.out.String(), "metrics: ")
	url, _, _ = strings.Cut(url, "\n")
	client := http.Client{Timeout: natstest.Soon}
	natstest.Eventually(p.t, natstest.Soon, func() error {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if !strings.Contains("\n"+string(body), "\n"+line+"\n") {
				return fmt.Errorf("%s: there is no %q in:\n%s", resp.Status, line, body)
			}
		}
		return nil
	})
}

// serve tells Prometheus of a tenant of its own server. Seen to fail with a registry of the default
// tenant.
func TestServeWithMetrics(t *testing.T) {
	t.Parallel()
	p := start(t, "serve", "--store", filepath.Join(t.TempDir(), "store"), "--port", "0",
		"--metrics", "127.0.0.1:0", "--tenant", "acme")
	p.says("ready: ", natstest.Soon)
	_, url, _ := strings.Cut(p.out.String(), "ready: ")
	url, _, _ = strings.Cut(url, " ")
	reg, err := kvregistry.New(t.Context(), natstest.Connect(t, url), kvregistry.Tenant("acme"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	if _, err := reg.Register(kvregistry.Service{Name: "web", Address: "10.0.0.1:80"}); err != nil {
		t.Fatal(err)
	}
	p.scrapes("kvregistry_up 1", "kvregistry_services 1", "kvregistry_reaper_slot_held 0",
		`kvregistry_instances{service="web",status="passing"} 1`)
	p.signal(syscall.SIGTERM)
	if code := p.code(natstest.Soon); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.err.String())
	}
}

// The role reaper is enough for a reaper with metrics. Seen to fail with the role registrar, whose
// registry holds no slot.
func TestReaperWithMetrics(t *testing.T) {
	t.Parallel()
	access, err := operator.Permissions("acme", operator.RoleReaper)
	if err == nil {
		access, err = access.For("r")
	}
	if err != nil {
		t.Fatal(err)
	}
	users := natstest.Configured(t, "authorization { users: [\n{ "+operator.User("r", "p")+"\n"+
		access.Config()+"}\n{ "+operator.User("root", "p")+" }\n] }\n").Users
	s := natstest.Start(t, func(o *server.Options) { o.Users = users })
	nc := s.Connect(nats.UserInfo("root", "p"))
	reg, err := kvregistry.New(t.Context(), nc, kvregistry.Tenant("acme"),
		kvregistry.WithoutReaping())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	if _, err := reg.Register(kvregistry.Service{Name: "web", Address: "10.0.0.1:80"}); err != nil {
		t.Fatal(err)
	}
	p := start(t, "reaper", "--server", s.URL(), "--user", "r", "--password", "p", "--inbox",
		"_INBOX_acme.r", "--tenant", "acme", "--metrics", "127.0.0.1:0")
	p.scrapes("kvregistry_up 1", "kvregistry_ok 1", "kvregistry_refused 0",
		"kvregistry_reaper_slot_held 1", "kvregistry_services 1",
		`kvregistry_instances{service="web",status="passing"} 1`)
	p.signal(syscall.SIGTERM)
	if code := p.code(natstest.Soon); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.err.String())
	}
}

// An address that can't be listened at is a wrong command line, and nothing is said to be ready.
// Seen to fail with the metrics started after the line that says ready.
func TestMetricsWithoutAnAddress(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	for _, args := range [][]string{
		{"serve", "--store", filepath.Join(t.TempDir(), "store"), "--port", "0"},
		{"reaper", "--server", s.URL()},
	} {
		p := start(t, append(args, "--metrics", "127.0.0.1:none")...)
		if code := p.code(natstest.Soon); code != 2 {
			t.Errorf("%s: exit code %d, want 2", args[0], code)
		}
		said(t, "standard output", p.out.String(), "")
		if text := p.err.String(); !strings.Contains(text, "--metrics") ||
			!strings.Contains(text, "such as 127.0.0.1:9550") {
			t.Errorf("%s: %s", args[0], text)
		}
	}
}
