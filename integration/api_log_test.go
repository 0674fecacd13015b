package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// bareHandler is a log handler that prints attributes without quoting.
type bareHandler struct{ to *natstest.Log }

func (h bareHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h bareHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h bareHandler) WithGroup(string) slog.Handler { return h }

func (h bareHandler) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
	_, err := fmt.Fprintln(h.to, text)
	return err
}

// Values and keys in the bucket can't control the terminal that shows log lines, for any handler.
// Seen to fail with a key that is logged as it is.
func TestLogLinesAreCalm(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	log := &natstest.Log{}
	const evil = "\x1b[2J\u202e\a"
	r := open(t, s, kvregistry.Logger(slog.New(bareHandler{log})))
	if err := r.Observe(kvregistry.Everything); err != nil {
		t.Fatal(err)
	}
	register(t, r, kvregistry.Service{Name: evil, ID: evil, Address: "a:1"})
	other := open(t, s)
	// this fences the first one
	register(t, other, kvregistry.Service{Name: evil, ID: evil, Address: "a:2"})
	nc := s.Connect()
	for n, value := range []string{
		"no JSON " + evil, `{"format":1,"lease":"` + evil + `"}`,
		`{"format":1,"lease":"L","instance":{"id":"` + evil + `"}}`,
		`{"format":1,"lease":"\u001b[2J","owner":"\u001b"` +
			`,"instance":{"id":"\u001b[2J","name":"\u001b[2J","status":"\u001b[2J"}}`,
		`{"format":"` + evil + `"}`,
	} {
		for _, key := range []string{"svc.web." + evil, "svc." + evil + ".x", "lease." + evil, evil,
			"svc.web."} {
			// each key once: a snapshot tells of the last value alone
			if err := nc.Publish(fmt.Sprint("$KV.registry_default.", key, n),
				[]byte(value)); err != nil {
				t.Fatal(err)
			}
		}
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if log.Count("can't be read") < 4 || log.Count("took over") < 1 {
			return fmt.Errorf("the line was not logged: %d skipped, %q", r.Health().Skipped,
				log.String())
		}
		return nil
	})
	if text := log.String(); strings.ContainsAny(text, "\x1b\u202e\a") {
		t.Errorf("%q", text)
	}
}

// Each line names the tenant. A line about an instance names it and its service, and a line with a
// cause has the cause. Seen to fail without the logger's own attribute.
func TestLogLinesNameWhatTheyAreAbout(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	log := &natstest.Log{}
	logger := kvregistry.Logger(slog.New(slog.NewJSONHandler(log, nil)))
	r := open(t, s, logger, kvregistry.Tenant("acme"))
	register(t, r, web("a"))
	register(t, open(t, s, kvregistry.Tenant("acme")), web("a")) // this fences the first one
	if err := r.Observe(kvregistry.Everything); err != nil {
		t.Fatal(err)
	}
	if err := s.Connect().Publish("$KV.registry_acme.svc.web.b", []byte("no record")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`"msg":"kvregistry: a newer registration of the same id took over"` +
			`,"tenant":"acme","service":"web","instance":"a"`,
		`"msg":"kvregistry: skipped a record that can't be read"` +
			`,"tenant":"acme","key":"svc.web.b","service":"web","instance":"b","revision":`,
		`"cause":"`,
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		for _, text := range want {
			if log.Count(text) == 0 {
				return fmt.Errorf("no line has %s: %s", text, log.String())
			}
		}
		return nil
	})
}

// asker is a log handler that calls the registry back.
type asker struct {
	slog.Handler
	lines *atomic.Int64
	ask   func()
}

func (a *asker) Enabled(context.Context, slog.Level) bool { return true }

func (a *asker) Handle(context.Context, slog.Record) error {
	a.lines.Add(1)
	a.ask()
	return nil
}

func (a *asker) WithAttrs([]slog.Attr) slog.Handler { return a }

// Invariant 12: a log handler may call the registry that logs, because no lock is held while the
// handler runs. Seen to fail with a view that logs under its locks that it is current again.
func TestLogHandlerThatCallsBack(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	var reg atomic.Pointer[kvregistry.Registry]
	a := &asker{Handler: slog.DiscardHandler, lines: &atomic.Int64{}, ask: func() {
		if r := reg.Load(); r != nil {
			r.Health()
			_, _ = r.Snapshot("web")
			_ = r.Observe("other")
		}
	}}
	nc := s.Connect()
	r := openOn(t, nc, kvregistry.Logger(slog.New(a)))
	reg.Store(r)
	register(t, r, web("a"))
	sees(t, r, natstest.Soon, "web", "a")
	bad := bucket(t, s.Connect(), "default")
	_, err := bad.Put(t.Context(), "svc.web.bad", []byte("no record"))
	must(t, err)
	for range 2 {
		must(t, nc.ForceReconnect())
		register(t, open(t, s), web("a")) // this fences r
		done := make(chan struct{})
		go func() { // ends when the registry answers
			defer close(done)
			natstest.Eventually(t, natstest.Soon, func() error {
				if r.Health().Connected {
					return nil
				}
				return context.DeadlineExceeded
			})
		}()
		select {
		case <-done:
		case <-time.After(2 * natstest.Soon):
			t.Fatal("a log handler that calls back blocks the registry")
		}
	}
	sees(t, r, natstest.Soon, "web", "a")
	if a.lines.Load() == 0 {
		t.Error("nothing was logged")
	}
}

// A registry that has reached NATS logs once what an administrator should change: a server version
// that does not separate roles, and a long duplicate window of the bucket. Otherwise it logs
// nothing. Seen to fail without the check of the version, and with a log before the connection is
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
	const line, version, window = "the server or the bucket should be changed",
		"nats-server 2.15.2 ", "2m0s"
	if log := tells(s.Connect()); log.Count(line) != 0 {
		t.Errorf("nothing is wrong, and it logs %s", log)
	}
	if log := tells(natstest.Connect(t, old)); log.Count(line) != 1 || log.Count(version) != 1 {
		t.Errorf("an old server logs %s", log)
	}
	stream, err := js.Stream(t.Context(), "KV_registry_acme")
	must(t, err)
	cfg := stream.CachedInfo().Config
	cfg.Duplicates = 2 * time.Minute
	_, err = js.UpdateStream(t.Context(), cfg)
	must(t, err)
	if log := tells(natstest.Connect(t, old)); log.Count(line) != 2 || log.Count(window) != 1 {
		t.Errorf("an old server and a long window log %s", log)
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
