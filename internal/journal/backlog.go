package journal

import (
	"context"
	"log/slog"
	"sync"
)

// backlogMost is how many lines wait for a handler that is slow. Further lines are dropped.
const backlogMost = 1000

// backlog runs functions one after the other, in a goroutine that exists while there are any.
type backlog struct {
	mu      sync.Mutex // guards what follows
	waiting []func()
	idle    chan struct{} // closed when the goroutine ends; nil before the first
	running bool
	closed  bool // nothing is added any more
}

// add has f run after those before it.
func (b *backlog) add(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if len(b.waiting) < backlogMost {
		b.waiting = append(b.waiting, f)
	}
	if !b.running {
		b.running, b.idle = true, make(chan struct{})
		go b.run() // ends when nothing waits; close waits for it
	}
}

func (b *backlog) run() {
	for {
		b.mu.Lock()
		if len(b.waiting) == 0 {
			b.running = false
			close(b.idle)
			b.mu.Unlock()
			return
		}
		f := b.waiting[0]
		b.waiting = b.waiting[1:]
		b.mu.Unlock()
		f()
	}
}

// close waits until nothing runs, or ctx ends.
func (b *backlog) close(ctx context.Context) {
	b.mu.Lock()
	b.closed = true
	idle, running := b.idle, b.running
	b.mu.Unlock()
	if !running {
		return
	}
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// handler is a log handler that leaves records to a backlog.
type handler struct {
	slog.Handler // the user's
	backlog      *backlog
}

// Enabled is true for all levels. The backlog asks the user's handler.
func (h handler) Enabled(context.Context, slog.Level) bool { return true }

func (h handler) Handle(ctx context.Context, record slog.Record) error {
	h.backlog.add(func() {
		if h.Handler.Enabled(ctx, record.Level) {
			_ = h.Handler.Handle(ctx, record) // there is nobody to tell
		}
	})
	return nil
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.backlog}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.backlog}
}
