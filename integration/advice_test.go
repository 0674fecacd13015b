package integration

import (
	"errors"
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

// A registry says once, when it has reached NATS, what an administrator should change: a server
// that keeps no roles apart, and a bucket whose duplicate window is long. It says nothing if all is
// well. Seen to fail without the check of the version, and with a log before the connection is
// there.
func TestRegistryTellsWhatToChange(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	old := s.Labelled(t, "2.15.2")
	js, err := jetstream.New(s.Connect())
	must(t, err)
	must(t, operator.Provision(t.Context(), s.Connect(), "acme", tenant.Config{}))
	tells := func(nc *nats.Conn) *natstest.Log {
		t.Helper()
		log := &natstest.Log{}
		r := openOn(t, nc, kvregistry.Tenant("acme"), kvregistry.Logger(log.Logger()))
		sees(t, r, natstest.Soon, "web")
		return log
	}
	const line, version, window = "the server or the bucket should be changed", "nats-server 2.15.2 ", "2m0s"
	if log := tells(s.Connect()); log.Count(line) != 0 {
		t.Errorf("all is well: %s", log)
	}
	if log := tells(natstest.Connect(t, old)); log.Count(line) != 1 || log.Count(version) != 1 {
		t.Errorf("an old server: %s", log)
	}
	stream, err := js.Stream(t.Context(), "KV_registry_acme")
	must(t, err)
	cfg := stream.CachedInfo().Config
	cfg.Duplicates = 2 * time.Minute
	_, err = js.UpdateStream(t.Context(), cfg)
	must(t, err)
	if log := tells(natstest.Connect(t, old)); log.Count(line) != 2 || log.Count(window) != 1 {
		t.Errorf("an old server and a long window: %s", log)
	}
	s.Down()
	log := &natstest.Log{}
	late := natstest.Connect(t, old, nats.RetryOnFailedConnect(true))
	openOn(t, late, kvregistry.Tenant("acme"), kvregistry.Logger(log.Logger()))
	s.Up()
	natstest.Eventually(t, natstest.Soon, func() error {
		if log.Count(version) != 1 || log.Count(window) != 1 {
			return errors.New(log.String())
		}
		return nil
	})
}

// A server that forbids longer duplicate windows, as docs/operations.md says, takes the bucket of a
// registry, and refuses a change to a longer one. Seen to fail with a new bucket's window of two
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
