package integration

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// sharedLimits are the settings of a server that docs/security.md lists under "What accounts still
// share". TestDocumentedLimits compares them with the page.
const sharedLimits = `max_pending: 4MB
jetstream {
  limits {
    duplicate_window: "100ms"
    batch { max_inflight_per_stream: 1, max_inflight_total: 10, max_msgs: 10, timeout: "1s" }
  }
}
`

// bounded starts a server with the settings sharedLimits and an account of tenant acme.
func bounded(t *testing.T) *natstest.Server {
	t.Helper()
	account, err := operator.AccountConfig("acme", operator.AccountLimits{MaxBytes: 4 << 20,
		Replicas: 1, Connections: 8}, operator.User("acme", "p"))
	must(t, err)
	// long enough for a slow machine
	patient := strings.Replace(sharedLimits, `timeout: "1s"`, `timeout: "1m"`, 1)
	opts := natstest.Configured(t, patient+"accounts: {\n"+account+"}\n")
	return natstest.Start(t, func(o *server.Options) {
		o.Accounts, o.Users, o.MaxPending, o.JetStreamLimits = opts.Accounts, opts.Users,
			opts.MaxPending, opts.JetStreamLimits
	})
}

// docs/security.md shows the settings that the tests use.
func TestDocumentedLimits(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/security.md")
	must(t, err)
	if !strings.Contains(string(page), "```\n"+sharedLimits+"```\n") {
		t.Errorf("docs/security.md does not show\n%s", sharedLimits)
	}
}

// A generated account bounds what its users' consumers hold in the server's memory: their number,
// and what each may leave unacknowledged unless it asks for more. docs/security.md says what the
// account can't bound. If the last check fails, the server has learned to bound it. A registry
// works with these bounds, on one server and in a cluster. Seen to fail without max_ack_pending.
func TestAccountBoundsConsumers(t *testing.T) {
	t.Parallel()
	s := bounded(t)
	nc := s.Connect(nats.UserInfo("acme", "p"))
	r := openOn(t, nc, kvregistry.Tenant("acme"))
	register(t, r, web("a"))
	sees(t, r, natstest.Soon, "web", "a")
	js, err := jetstream.New(nc)
	must(t, err)
	asks := func(name string, pending int) (jetstream.Consumer, error) {
		return js.CreateConsumer(t.Context(), "KV_registry_acme",
			jetstream.ConsumerConfig{Name: name, AckPolicy: jetstream.AckExplicitPolicy,
				MaxAckPending: pending})
	}
	c, err := asks("default", 0)
	if err != nil || c.CachedInfo().Config.MaxAckPending != 100 {
		t.Errorf("a consumer may leave %+v unacknowledged, %v", c, err)
	}
	if _, err := asks("more", 101); err == nil {
		t.Error("a consumer may leave more unacknowledged than the account allows")
	}
	if _, err := asks("unlimited", -1); err != nil {
		t.Errorf("the server has learned to refuse a consumer without a limit: %v; "+
			"docs/security.md says that it does not", err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "more",
		Subjects: []string{"more"}}); err == nil {
		t.Error("the account may have a second stream")
	}
}

// A generated account may hold no stream in memory. Views work all the same: their consumers are in
// memory, and the server does not count them. Seen to fail with the earlier limit of 64 MiB.
func TestAccountHasNoMemory(t *testing.T) {
	t.Parallel()
	account, err := operator.AccountConfig("acme", operator.AccountLimits{MaxBytes: 4 << 20,
		Replicas: 3, Connections: 8}, operator.User("acme", "p"))
	must(t, err)
	list := natstest.Cluster(t, func(o *server.Options) {
		opts := natstest.Configured(t, "accounts: {\n"+account+"}\n")
		o.Accounts, o.Users = opts.Accounts, opts.Users
	})
	nc := list[0].Connect(nats.UserInfo("acme", "p"))
	js, err := jetstream.New(nc)
	must(t, err)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "m",
		Subjects: []string{"m"}, Storage: jetstream.MemoryStorage, MaxBytes: 1000}); err == nil {
		t.Error("a stream in memory was made")
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		return operator.Provision(t.Context(), nc, "acme", tenant.Config{})
	})
	r := openOn(t, nc, kvregistry.Tenant("acme"), kvregistry.TTL(3*time.Second))
	register(t, r, web("a"))
	sees(t, openOn(t, list[1].Connect(nats.UserInfo("acme", "p")), kvregistry.Tenant("acme")),
		natstest.Soon, "web", "a")
}

// With the settings of docs/security.md, a server ends the connection of a client that never reads,
// and refuses a stream's second open batch and a batch of more than ten messages. Fails with a
// server's default settings.
func TestServersLimits(t *testing.T) {
	t.Parallel()
	s := bounded(t)
	nc := s.Connect(nats.UserInfo("acme", "p"))
	must(t, operator.Provision(t.Context(), nc, "acme", tenant.Config{}))
	t.Run("a client that never reads", func(t *testing.T) {
		deaf, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "nats://"))
		must(t, err)
		defer func() { _ = deaf.Close() }()
		_, err = io.WriteString(deaf,
			"CONNECT "+`{"verbose":false,"user":"acme","pass":"p"}`+"\r\nSUB deaf 1\r\nPING\r\n")
		must(t, err)
		natstest.Eventually(t, natstest.Soon, func() error {
			if s.Server().NumSubscriptions() == 0 {
				return errors.New("the client has not subscribed")
			}
			return nil
		})
		before := s.Server().NumSlowConsumers()
		for range 48 { // MiB; the system's buffers hold some of them
			must(t, nc.Publish("deaf", make([]byte, 1<<20)))
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			if s.Server().NumSlowConsumers() == before {
				return errors.New("the client is still connected")
			}
			return nil
		})
	})
	t.Run("batches", func(t *testing.T) {
		js, err := jetstream.New(nc)
		must(t, err)
		stream, err := js.Stream(t.Context(), "KV_registry_acme")
		must(t, err)
		cfg := stream.CachedInfo().Config
		cfg.AllowAtomicPublish = true
		_, err = js.UpdateStream(t.Context(), cfg)
		must(t, err)
		adds := func(batch string, n int) string {
			t.Helper()
			msg := nats.NewMsg(fmt.Sprintf("$KV.registry_acme.%s.%d", batch, n))
			msg.Header = nats.Header{"Nats-Batch-Id": {batch},
				"Nats-Batch-Sequence": {fmt.Sprint(n)}}
			answer, err := nc.RequestMsgWithContext(t.Context(), msg)
			must(t, err)
			return string(answer.Data)
		}
		if got := adds("a", 1); got != "" {
			t.Fatalf("the first batch: %s", got)
		}
		if got := adds("b", 1); !strings.Contains(got, "error") {
			t.Errorf("a second batch was opened: %q", got)
		}
		last := ""
		for n := 2; n <= 11; n++ {
			last = adds("a", n)
		}
		if !strings.Contains(last, "error") {
			t.Errorf("a batch of 11 messages was taken: %q", last)
		}
	})
}

// A server that forbids long duplicate windows, as docs/operations.md says, accepts the bucket of a
// registry, and refuses a change to a longer window. Seen to fail with a new bucket's window of two
// minutes.
func TestServersDuplicateWindow(t *testing.T) {
	t.Parallel()
	opts := natstest.Configured(t, `jetstream { limits { duplicate_window: "100ms" } }`)
	s := natstest.Start(t, func(o *server.Options) { o.JetStreamLimits = opts.JetStreamLimits })
	r := open(t, s)
	register(t, r, web("a"))
	sees(t, r, natstest.Soon, "web", "a")
	js, err := jetstream.New(s.Connect())
	must(t, err)
	stream, err := js.Stream(t.Context(), "KV_registry_default")
	must(t, err)
	cfg := stream.CachedInfo().Config
	cfg.Duplicates = time.Second
	if _, err = js.UpdateStream(t.Context(), cfg); err == nil {
		t.Error("the server took a longer window")
	}
}

// A server may refuse values longer than a record, as docs/operations.md says. The longest record
// still gets through, with the headers of a change, and so do heartbeats. Seen to fail with a limit
// of the record's own length: the change was refused.
func TestBucketThatRefusesLargeValues(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t).Connect()
	const longest = kvregistry.DefaultMaxRecord + 1<<10
	must(t, operator.Provision(t.Context(), nc, "acme", tenant.Config{MaxValue: longest}))
	if err := operator.Provision(t.Context(), nc, "acme",
		tenant.Config{MaxValue: longest + 1}); !isErr(err, tenant.ErrBucketMismatch) {
		t.Errorf("another limit: %v", err)
	}
	var err error
	if _, err := bucket(t, nc, "acme").Put(t.Context(), "svc.web.x",
		make([]byte, longest+1)); err == nil {
		t.Error("the server took a value that is too long")
	}
	r := openOn(t, nc, kvregistry.Tenant("acme"),
		kvregistry.OnLeaseLost(func(err error) { t.Error(err) }))
	s := web("a")
	for n := kvregistry.DefaultMaxRecord; ; n-- { // finds the longest record that can be registered
		s.Metadata = map[string]string{"k": strings.Repeat("x", n)}
		if _, err = r.Register(s); !isErr(err, kvregistry.ErrInvalidService) {
			break
		}
	}
	must(t, err)
	must(t, r.SetStatus("web", kvregistry.Warning)) // "warning" is as long as "passing"
	granted := r.Health().Renewed
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := r.Health(); !h.Renewed.After(granted) || h.Unwritten > 0 {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
	sees(t, r, natstest.Soon, "web", "a")
}
