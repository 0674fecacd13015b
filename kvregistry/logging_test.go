package kvregistry

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
)

// hook is a log handler that calls a function with each line.
type hook struct {
	slog.Handler
	f func(line string)
}

func (h *hook) Enabled(context.Context, slog.Level) bool      { return true }
func (h *hook) Handle(_ context.Context, r slog.Record) error { h.f(r.Message); return nil }
func (h *hook) WithAttrs([]slog.Attr) slog.Handler            { return h }
func (h *hook) WithGroup(string) slog.Handler                 { return h }
func hooked(f func(line string)) Option {
	return Logger(slog.New(&hook{slog.DiscardHandler, f}))
}

// A log handler may close the registry at any line. Seen to fail with lines that the goroutines of
// the lease, of the views and of the reaper log.
func TestLogHandlerThatCloses(t *testing.T) {
	t.Parallel()
	for _, at := range []string{
		"registered", "NATS is away", "lease lost", "what was held exclusively is lost",
		"look-ups answer from memory", "look-ups are current again", "reaped", "took over",
	} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			var reg atomic.Pointer[Registry]
			closed := make(chan error, 1)
			var once atomic.Bool
			r := newRegistry(t, s, hooked(func(line string) {
				if r := reg.Load(); r != nil && strings.Contains(line, at) &&
					once.CompareAndSwap(false, true) {
					closed <- r.Close()
				}
			}))
			reg.Store(r)
			for _, step := range provocations(t, s, r) {
				if !once.Load() {
					step()
				}
			}
			select {
			case <-closed:
			case <-time.After(natstest.Soon):
				t.Fatal("it is not closed")
			}
		})
	}
}

// provocations are steps that cause every log line.
func provocations(t *testing.T, s *natstest.Server, r *Registry) []func() {
	nc := s.Connect()
	web := Service{Name: "web", ID: "a", Address: "h:1"}
	await := func(done func(Health) bool) { // unless the registry is closed
		for end := time.Now().Add(natstest.Soon); !r.closed.Load() && !done(r.Health()) &&
			time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
	}
	return []func(){
		func() { _ = r.ObserveContext(t.Context(), Everything) },
		func() { _, _ = r.Register(web) },
		func() { _, _ = r.Exclusive(t.Context(), "n") },
		func() { // the view's consumer
			js, _ := jetstream.New(nc)
			for _, name := range natstest.Consumers(t, nc, "KV_registry_default") {
				_ = js.DeleteConsumer(t.Context(), "KV_registry_default", name)
			}
			await(func(h Health) bool { return h.Resyncs > 0 && h.Err == nil })
		},
		func() { // one registry that dies, and one that takes over
			dead, other := newRegistry(t, s, WithoutReaping()), newRegistry(t, s, WithoutReaping())
			mustRegister(t, dead, Service{Name: "web", ID: "dead", Address: "h:1"})
			_ = dead.Leave(t.Context())
			await(func(h Health) bool { return h.Reaped > 0 })
			mustRegister(t, other, web)
		},
		func() {
			_, _ = r.Register(Service{Name: "web", ID: "c", Address: "h:1"})
			s.Down()
			await(func(h Health) bool { return h.Lease == LeaseGone })
			s.Up()
			await(Health.OK)
		},
	}
}
