package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/internal/journal"
)

// lifetime is how a registry ends, what its end waits for, and where it logs.
type lifetime struct {
	journal *journal.Journal
	log     *slog.Logger // the journal's, for goroutines that a log handler must not hold up

	ctx    context.Context // ends with Close, when everything is taken back
	cancel context.CancelFunc

	closed  atomic.Bool
	closing context.Context // ends when closed is set: see whileOpen
	shut    context.CancelFunc
	ended   chan struct{} // closed when Close or Leave is through, except for the user's functions
	endErr  error         // what that came to; set before ended is closed

	lifeMu sync.Mutex     // guards wg and calls against a Close at the same time
	wg     sync.WaitGroup // the registry's own goroutines
	calls  sync.WaitGroup // those in which the user's functions run
}

func (l *lifetime) begin(log *slog.Logger) {
	l.journal = journal.New(log)
	l.log = l.journal.Logger()
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.closing, l.shut = context.WithCancel(l.ctx)
	l.ended = make(chan struct{})
}

// whileOpen is ctx for a call that waits: it ends when the registry is closed, too.
func (l *lifetime) whileOpen(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.closing, cancel)
	return ctx, func() { stop(); cancel() }
}

// orClosed is a call's error, or [ErrClosed] if Close got in the way of the call.
func (l *lifetime) orClosed(err error) error {
	if l.closed.Load() && (errors.Is(err, ErrNotRegistered) || errors.Is(err, ErrPending) ||
		errors.Is(err, context.Canceled)) {
		return ErrClosed
	}
	return err
}

// over is why an iterator ends.
func (l *lifetime) over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("kvregistry: %w", err)
	}
	return fmt.Errorf("kvregistry: %w", ErrClosed)
}

// unlessClosed calls f, which must not wait, unless l.ctx has ended. It reports whether it did.
func (l *lifetime) unlessClosed(f func()) bool {
	l.lifeMu.Lock()
	defer l.lifeMu.Unlock()
	if l.ctx.Err() != nil {
		return false
	}
	f()
	return true
}

// goUnlessClosed starts f in a goroutine that Close waits for by wg, unless the registry is closed.
// f ends with l.ctx. It reports whether it did.
func (l *lifetime) goUnlessClosed(wg *sync.WaitGroup, f func()) bool {
	return l.unlessClosed(func() { wg.Go(f) })
}

// tell calls the user's functions, one after the other, until the registry is closed: one of them
// may close it.
func tell[T any](l *lifetime, functions []func(T), what T) {
	for _, f := range functions {
		if l.ctx.Err() != nil {
			return
		}
		f(what)
	}
}

// finish ends the registry by f. If another call does so, it waits for that, or until ctx ends.
func (l *lifetime) finish(ctx context.Context, f func() error) error {
	if l.closed.Swap(true) {
		select {
		case <-l.ended:
			return l.endErr
		case <-ctx.Done():
			return fmt.Errorf("kvregistry: another call closes the registry, and has not "+
				"returned: %w", ctx.Err())
		}
	}
	l.shut()
	l.endErr = f()
	close(l.ended)
	ctx, cancel := context.WithTimeout(context.Background(), callsTime)
	defer cancel()
	l.awaitCalls(ctx)
	l.journal.Close(ctx)
	return l.endErr
}

// callsTime is how long Close waits for the user's functions that run.
const callsTime = 100 * time.Millisecond

// awaitCalls waits for the user's functions that run, until ctx ends: one of them may wait for
// Close.
func (l *lifetime) awaitCalls(ctx context.Context) {
	done := make(chan struct{})
	go func() { // ends when the last of them returns
		defer close(done)
		l.calls.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
