package kvregistry

import (
	"context"
	"log/slog"
	"sync"
)

// backlogMost is how many log lines wait for a handler that takes its time. Others are dropped.
const backlogMost = 1000

// backlog runs functions of the user's one after the other, in a goroutine that is there while
// there are any. No goroutine of the registry waits for it, so a log handler may be slow or call
// Close.
type backlog struct {
	start func(func()) bool // starts a goroutine that Close waits for, but not for long

	mu      sync.Mutex // guards what follows
	waiting []func()
	running bool
}

// add has f run when those before it have returned.
func (b *backlog) add(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) < backlogMost {
		b.waiting = append(b.waiting, f)
	}
	b.running = b.running || b.start(b.run) // ends when nothing waits
}

func (b *backlog) run() {
	for {
		b.mu.Lock()
		if len(b.waiting) == 0 {
			b.running = false
			b.mu.Unlock()
			return
		}
		f := b.waiting[0]
		b.waiting = b.waiting[1:]
		b.mu.Unlock()
		f()
	}
}

// later is a log handler that leaves records to a backlog.
type later struct {
	slog.Handler // the user's
	backlog      *backlog
}

// Enabled is true for all: the user's handler is asked by the backlog.
func (l later) Enabled(context.Context, slog.Level) bool { return true }

func (l later) Handle(ctx context.Context, record slog.Record) error {
	l.backlog.add(func() {
		if l.Handler.Enabled(ctx, record.Level) {
			_ = l.Handler.Handle(ctx, record) // there is nobody to tell
		}
	})
	return nil
}

func (l later) WithAttrs(attrs []slog.Attr) slog.Handler {
	return later{l.Handler.WithAttrs(attrs), l.backlog}
}

func (l later) WithGroup(name string) slog.Handler {
	return later{l.Handler.WithGroup(name), l.backlog}
}
