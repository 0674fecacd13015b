package line

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/lease"
)

// ErrNotHeld says that a [Hold] is over.
var ErrNotHeld = errors.New("not held any more")

// Hold is a name that this process holds, and no other process, until Done closes. Its methods may
// be called by any number of goroutines. A deleted bucket is an exception: see docs/exclusive.md.
type Hold struct {
	lines  *Lines
	name   string
	ticket *ticket
	token  uint64
	done   chan struct{}

	mu  sync.Mutex // guards err
	err error      // why it is over
}

// Why a hold is over, except lease.ErrLost and Config.Closed.
var (
	errReleased = errors.New("it was released")
	errRemoved  = errors.New("its key was removed or overwritten, or the bucket was recreated")
	errDoubtful = fmt.Errorf("%w, or about to be: no heartbeat was acknowledged in time",
		lease.ErrLost)
)

// Name is the name that is held.
func (h *Hold) Name() string { return h.name }

// Token is the fencing token: the revision of the hold's key. It is higher than that of each
// earlier hold of the name. Tokens start over if the bucket is deleted and recreated.
func (h *Hold) Token() uint64 { return h.token }

// Done closes when the name is not held any more: it was released, the registry was closed, the
// lease was lost or is about to be, or somebody removed the key.
func (h *Hold) Done() <-chan struct{} { return h.done }

// Context returns a context that ends with ctx, or with the hold. If the hold ended it,
// [context.Cause] gives [Hold.Err]. The function ends it, and frees what it takes.
func (h *Hold) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() { // ends with ctx, or with the hold
		select {
		case <-h.done:
			cancel(h.Err())
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// Err is nil while the name is held, by the clock of now. It is surer than Done, because no
// goroutine has to run first. After that the error wraps [ErrNotHeld], and lease.ErrLost or the
// registry's ErrClosed if that is the reason. It reads memory only.
func (h *Hold) Err() error {
	h.check()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// releaseTime bounds Close.
const releaseTime = 5 * time.Second

// Close is [Hold.Release] within 5 s.
func (h *Hold) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	return h.Release(ctx)
}

// Release ends the hold at once, and returns when the server has acknowledged that the next in line
// has the name. A further call, or one after the hold is over, waits for the same.
//
// The error wraps the registry's ErrPending if ctx ended first: the key is removed as soon as NATS
// answers, or with the lease. It wraps [tenant.ErrPermission] if the server refuses the removal,
// which is then tried again.
func (h *Hold) Release(ctx context.Context) error {
	h.end(errReleased)
	if err := h.lines.await(ctx, h.ticket); err != nil {
		return fmt.Errorf("kvregistry: release %.40q: %w", h.name, err)
	}
	return nil
}

// keep waits until the hold is over, and ends it in time.
func (h *Hold) keep() {
	for {
		alarm := time.NewTimer(time.Until(h.check()))
		select {
		case <-h.done:
		case <-h.ticket.moved:
		case <-h.ticket.lease.Done():
		case <-alarm.C:
		}
		alarm.Stop()
		select {
		case <-h.done:
			return
		default:
		}
	}
}

// check ends the hold if it is over by now. It returns until when the hold goes on for certain.
func (h *Hold) check() (until time.Time) {
	until = h.ticket.lease.Until()
	over := h.lines.over(h.ticket)
	switch lost := h.ticket.lease.Err(); {
	case errors.Is(over, errGone):
		h.end(errRemoved)
	case over != nil:
		h.end(over)
	case lost != nil:
		h.end(lost)
	case !time.Now().Before(until):
		h.end(errDoubtful)
	}
	return until
}

// end ends the hold, unless it is over already.
func (h *Hold) end(why error) {
	h.mu.Lock()
	over := h.err != nil
	if !over {
		h.err = fmt.Errorf("kvregistry: %.40q is %w: %w", h.name, ErrNotHeld, why)
		close(h.done)
		h.lines.giveUp(h.ticket)
	}
	h.mu.Unlock()
	switch cfg := &h.lines.cfg; {
	case over:
	case why == errReleased:
		cfg.Journal.Say("kvregistry: released a name", 1, "name", journal.Plain(h.name))
	case why == cfg.Closed:
		cfg.Journal.SayLater("kvregistry: released a name", 1, "name", journal.Plain(h.name))
	default:
		h.lines.log.Warn("kvregistry: what was held exclusively is lost",
			"name", journal.Plain(h.name), "cause", why)
	}
}
