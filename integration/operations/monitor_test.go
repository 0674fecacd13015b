package operations

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// The checks of "nats audit" that go by metadata.
const (
	streamCheck   = "JETSTREAM_004"
	consumerCheck = "JETSTREAM_005"
)

// The codes with which "nats server check" exits.
const (
	fine     = 0
	critical = 2
)

// The checks of the nats command pass on a tenant that is well, and that of a slot's key is
// critical if nobody has the slot. Seen to fail with a consumer that is sent nothing for longer.
func TestServerChecks(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	populate(t, s)
	l := login{s.URL(), root}
	var reaper string
	for _, name := range natstest.Consumers(t, s.Connect(nats.UserInfo(root, "p")),
		"KV_registry_acme") {
		if strings.HasPrefix(name, "reaper-") {
			reaper = name
		}
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"stream", "--stream", "KV_registry_acme"}, "OK"},
		{[]string{"consumer", "--stream", "KV_registry_acme", "--consumer", reaper,
			"--unprocessed-critical", "10000", "--last-delivery-critical", "3s"}, "OK"},
		{[]string{"kv", "--bucket", "registry_acme", "--key", "reaper.0"}, "OK"},
	} {
		natstest.Eventually(t, natstest.Soon, func() error {
			out, code := l.run(t, append([]string{"server", "check"}, c.args...)...)
			if code != fine || !strings.Contains(out, c.says) {
				return fmt.Errorf("%q: exit code %d: %s", c.args, code, out)
			}
			return nil
		})
	}
	// one process has the first slot, and none the second
	if out, code := l.run(t, "server", "check", "kv", "--bucket", "registry_acme", "--key",
		"reaper.1"); code != critical {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// In a cluster the check of the stream, and the audit, are critical when a server is away, and the
// audit is if a reaper's consumer is sent nothing, because of the metadata alone. Seen to fail with
// a bucket without peer-expect, and with a consumer without metadata.
func TestMonitorsOfACluster(t *testing.T) {
	t.Parallel()
	text := `accounts: {
	A: { jetstream: enabled, users: [{ user: root, password: p }] }
	SYS: { users: [{ user: sys, password: p }] }
}
system_account: SYS
`
	list := natstest.Cluster(t, func(o *server.Options) {
		opts := natstest.Configured(t, text)
		o.Accounts, o.Users, o.SystemAccount = opts.Accounts, opts.Users, opts.SystemAccount
	})
	nc := list[0].Connect(nats.UserInfo(root, "p"))
	natstest.Eventually(t, natstest.Soon, func() error {
		return operator.Provision(t.Context(), nc, "acme", tenant.Config{})
	})
	reg, err := kvregistry.New(t.Context(), nc, kvregistry.Tenant("acme"),
		kvregistry.TTL(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	natstest.AwaitReplicas(t, nc, "KV_registry_acme", 3)
	l, sys := login{list[0].URL(), root}, login{list[0].URL(), "sys"}
	audit := func(check, outcome string) error {
		t.Helper()
		file := filepath.Join(t.TempDir(), "audit.zip")
		if out, code := sys.run(t, "audit", "gather", "--output", file, "--no-progress",
			"--no-server-profiles"); code != fine {
			t.Fatal(out)
		}
		out, _ := sys.run(t, "audit", "analyze", file)
		for line := range strings.Lines(out) {
			if strings.Contains(line, check) && strings.Contains(line, outcome) {
				return nil
			}
		}
		return fmt.Errorf("no %s of %s in: %s", outcome, check, out)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if out, code := l.run(t, "server", "check", "stream", "--stream",
			"KV_registry_acme"); code != fine || !strings.Contains(out, "OK:3 peers") {
			return fmt.Errorf("exit code %d: %s", code, out)
		}
		return nil
	})
	for _, check := range []string{streamCheck, consumerCheck} {
		if err := audit(check, "PASS"); err != nil {
			t.Error(err)
		}
	}
	b, err := tenant.New(nc, "acme", tenant.Config{})
	if err != nil {
		t.Fatal(err)
	}
	feed, err := b.OpenFeed(t.Context(), tenant.FeedConfig{
		Name: "reaper-", Keys: []string{tenant.LeaseKey("NONE")}, Heartbeat: time.Second,
		Within: time.Second, Message: func(tenant.Message) {}, Mark: func(uint64) {},
		Lost: func(error) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error { return audit(consumerCheck, "FAIL") })
	feed.Close()
	list[2].Down()
	natstest.Eventually(t, 2*natstest.Soon, func() error {
		if out, code := l.run(t, "server", "check", "stream", "--stream",
			"KV_registry_acme"); code != critical {
			return fmt.Errorf("exit code %d: %s", code, out)
		}
		return nil
	})
	natstest.Eventually(t, natstest.Soon, func() error { return audit(streamCheck, "FAIL") })
}
