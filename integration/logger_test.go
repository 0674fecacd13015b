package integration

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

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

// Invariant 12: a log handler may call the registry that it logs for: no lock is held while it
// runs. Seen to fail with a view that says under its locks that it is current again.
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
		register(t, open(t, s), web("a")) // it is fenced
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
			t.Fatal("a log handler that calls back stops the registry")
		}
	}
	sees(t, r, natstest.Soon, "web", "a")
	if a.lines.Load() == 0 {
		t.Error("nothing was logged")
	}
}
