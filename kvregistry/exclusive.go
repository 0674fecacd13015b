package kvregistry

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/tenant"
)

// Hold is a name that this process holds, and no other, from when [Registry.Exclusive] returned it until Done closes. Its methods may be called by any
// number of goroutines. A bucket that is deleted meanwhile is an exception: see
// [Registry.Exclusive].
type Hold struct {
	r      *Registry
	name   string
	ticket *ticket
	token  uint64
	done   chan struct{}

	mu  sync.Mutex // guards err
	err error      // why it is over
}

// Why a hold is over, beside ErrLeaseLost and ErrClosed.
var (
	errReleased = errors.New("it was released")
	errRemoved  = errors.New("its key was removed or overwritten, or the bucket made anew")
	errDoubtful = fmt.Errorf("%w, or about to be: no heartbeat was acknowledged in time", ErrLeaseLost)
)

// Exclusive waits in line for a name until this process holds it, or ctx ends: of all processes of the tenant at most one holds a name at a time, and those who
// wait get it in the order in which they came. A name is 1 to 255 bytes of UTF-8, and has nothing to do with a service of that name.
//
// A hold lives by the process's lease, like a registration: when the process dies, the next one has it within a TTL and a second. It ends when this process can't be sure of its lease any more:
// with no heartbeat acknowledged for seven eighths of a TTL, while the server still keeps the lease and with it the others away. It is not taken again
// by itself: call Exclusive again.
//
// If the tenant's bucket is deleted, a process that starts after that may hold the name at once,
// and a holder that is cut off does not know of it for up to seven eighths of its TTL. End the
// holders before you delete the bucket of a tenant.
//
// What knows that it is over can't stop what a process does while it is frozen, or sent before: give [Hold.Token] to what is written to, and have that refuse a token lower
// than the highest it has seen.
//
// If ctx has ended before the call, nothing is done; if it ends while this waits, the place is
// given up. While NATS is away, it waits for it. A place is lost with the lease; the wait then goes
// on at the end of the line. Each call takes a place of its own, also in one process. The error
// wraps ctx's, or [ErrInvalidName], [ErrClosed], [ErrConnectionClosed], [ErrPermission] or
// [ErrStorageFull].
func (r *Registry) Exclusive(ctx context.Context, name string) (*Hold, error) {
	filter, err := tenant.LockFilter(name)
	if err == nil {
		err = r.usable(ctx)
	}
	if err == nil {
		err = r.awaitReady(ctx)
	}
	if err == nil {
		err = r.lines.watch(ctx, filter)
	}
	for err == nil {
		var h *Hold
		if h, err = r.standInLine(ctx, name, filter); h != nil {
			return h, nil
		}
		if errors.Is(err, errGone) { // at the end of the line, under the next lease
			err = ctx.Err()
		}
	}
	if r.closed.Load() && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return nil, fmt.Errorf("kvregistry: exclusive %.40q: %w", name, err)
}

// Name is the name that is held.
func (h *Hold) Name() string { return h.name }

// Token is the fencing token: the revision of the hold's key, which is higher than that of every hold of the name before. It starts over with a bucket that was deleted and made
// anew.
func (h *Hold) Token() uint64 { return h.token }

// Done closes when the name is not held any more: it was released, the registry was closed, the lease was lost or is about to be, or somebody removed the key.
func (h *Hold) Done() <-chan struct{} { return h.done }

// Err is nil while the name is held, by the clock of now: right before something is done, it is surer than Done, which a goroutine has to get to. Then the error wraps
// [ErrNotHeld], and [ErrLeaseLost] or [ErrClosed] where that is why. It reads memory only.
func (h *Hold) Err() error {
	h.check()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// Close is [Hold.Release] within 5 s.
func (h *Hold) Close() error { return bounded(h.Release) }

// Release ends the hold, from when it is called, and returns when the server has acknowledged that the next in line has it. Called again, or when the hold is over, it waits for the same. The error
// wraps [ErrPending] where ctx ended first: the key is removed as soon as NATS answers, or with the lease; or [ErrPermission], and it is removed when the server lets it be.
func (h *Hold) Release(ctx context.Context) error {
	h.end(errReleased)
	return wrap(fmt.Sprintf("release %.40q", h.name), h.r.lines.gone(ctx, h.ticket))
}

// standInLine takes a place and waits for its turn. The error is errGone where the place was lost.
func (r *Registry) standInLine(ctx context.Context, name, filter string) (*Hold, error) {
	t, err := r.takeTicket(ctx, name, filter)
	if err != nil {
		return nil, err
	}
	var h *Hold
	through := false
	defer func() {
		switch {
		case through:
		case h != nil: // a log handler panicked, and nobody is given the hold
			h.end(errReleased)
		default:
			r.quitLater(t, nil)
		}
	}()
	if err = r.queue(ctx, t); err == nil {
		err = r.awaitTurn(ctx, t)
	}
	if err == nil {
		h = &Hold{r: r, name: name, ticket: t, token: r.lines.hold(t), done: make(chan struct{})}
	}
	if !r.quitLater(t, h) {
		h, err = nil, ErrClosed
	}
	through = h == nil
	r.tellTurn(t, h, err)
	through = true
	return h, err
}

// quitLater removes a ticket's key once its hold is over, if there is one. It reports false if the
// registry is closed: the key goes with the lease.
func (r *Registry) quitLater(t *ticket, h *Hold) bool {
	started := r.goUnlessClosed(&r.wg, func() { // ends with r.ctx; Close waits
		if h != nil {
			h.keep()
		}
		r.quit(t)
	})
	if !started {
		r.lines.leave(t, ErrClosed)
	}
	return started
}

// takeTicket makes a ticket for which there is room, under the lease that there is or will be.
func (r *Registry) takeTicket(ctx context.Context, name, filter string) (*ticket, error) {
	key := lineOf(filter) + rand.Text()[:16]
	if err := r.bucket.Room(ctx, key, len(ticketValue(r.id, r.anyLease()))); err != nil {
		return nil, err
	}
	l, err := r.keeper.Lease(ctx)
	if err != nil {
		return nil, err
	}
	return r.lines.enter(name, key, l)
}

// queue writes a ticket's key, once. One that is there is that of a try whose answer was lost: its id is nobody else's.
func (r *Registry) queue(ctx context.Context, t *ticket) error {
	w := tenant.Write{Key: t.key, Value: ticketValue(r.id, t.lease.ID), If: tenant.At(0)}
	for n := 0; ; n++ {
		_, err := r.write(ctx, w)
		if err == nil || errors.Is(err, tenant.ErrConflict) {
			t.once = err == nil && n == 0
			return nil
		}
		if tenant.Permanent(err) {
			return err
		}
		if over := backoff.SleepOr(ctx, retryCurve.After(n), t.lease.Done()); over != nil {
			return fmt.Errorf("%w: %w", over, err)
		}
		if t.lease.Err() != nil {
			return errGone
		}
		if over := r.lines.over(t); over != nil {
			return over
		}
	}
}

// doubtTime is how often a ticket that is the first in its line sees whether its lease is certain again.
const doubtTime = 20 * time.Millisecond

// awaitTurn waits until a ticket is the first in its line, under a lease that is certain.
func (r *Registry) awaitTurn(ctx context.Context, t *ticket) error {
	look := time.NewTicker(r.opt.checkTime())
	defer look.Stop()
	for {
		s := r.lines.standing(t)
		switch {
		case s.over != nil:
			return s.over
		case t.lease.Err() != nil: // it may be refused long before it is uncertain
			return errGone
		}
		if s.place > 0 && s.ahead > 0 && !t.waits {
			t.waits = true
			r.journal.say("kvregistry: waits for a name", 1, "name", plain(t.name), "ahead", s.ahead)
		}
		var again <-chan time.Time
		if s.place > 0 && s.ahead == 0 {
			now := time.Now()
			if now.Before(t.lease.Until()) && !now.Before(s.from) {
				return ctx.Err()
			}
			again = time.After(doubtTime)
		}
		select {
		case <-t.moved:
		case <-again:
		case <-t.lease.Done():
		case <-look.C:
			if s.place == 0 && r.lost(ctx, t) {
				return errGone
			}
		case <-ctx.Done():
			if why := r.lines.view.Failure(); why != nil {
				return fmt.Errorf("%w: %w", ctx.Err(), why)
			}
			return fmt.Errorf("%w: %d stand before", ctx.Err(), r.lines.standing(t).ahead)
		}
	}
}

// lost reports whether a ticket's key that the view has not shown is not there: it was removed before the view came to it.
func (r *Registry) lost(ctx context.Context, t *ticket) bool {
	_, found, err := r.bucket.Get(ctx, t.key)
	return err == nil && !found
}

// keep waits until the hold is over, and sees to it that it ends in time.
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

// check ends the hold where it is over by now. It returns until when it goes on for certain.
func (h *Hold) check() (until time.Time) {
	until = h.ticket.lease.Until()
	over := h.r.lines.over(h.ticket)
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

// end is the end of the hold, unless it is over already.
func (h *Hold) end(why error) {
	h.mu.Lock()
	over := h.err != nil
	if !over {
		h.err = fmt.Errorf("kvregistry: %.40q is %w: %w", h.name, ErrNotHeld, why)
		close(h.done)
		h.r.lines.giveUp(h.ticket)
	}
	h.mu.Unlock()
	switch {
	case over:
	case why == errReleased:
		h.r.journal.say("kvregistry: released a name", 1, "name", plain(h.name))
	case why == ErrClosed:
		h.r.journal.sayLater("kvregistry: released a name", 1, "name", plain(h.name))
	default:
		h.r.log.Warn("kvregistry: what was held exclusively is lost", "name", plain(h.name), "cause", why)
	}
}

// tellTurn logs what a wait for a name came to.
func (r *Registry) tellTurn(t *ticket, h *Hold, err error) {
	switch {
	case h != nil:
		r.journal.say("kvregistry: holds a name", 1, "name", plain(h.name), "token", h.token)
	case t.waits && err != nil:
		r.journal.say("kvregistry: waits no more for a name", 1, "name", plain(t.name), "cause", plain(err.Error()))
	}
}

// quit removes a ticket's key, and does not give up while it may stand in others' way. Where its lease is over, reapers would, but later. Where the server refuses it, who waits for it is told at once, and it
// is tried again: permissions may come back, and as long as its lease lives, nobody else ends it.
func (r *Registry) quit(t *ticket) {
	r.lines.giveUp(t)
	for n := 0; ; n++ {
		wait := retryCurve.After(n)
		err := r.discard(t)
		again := err != nil && (!tenant.Permanent(err) || errors.Is(err, ErrStorageFull))
		if errors.Is(err, ErrPermission) && r.lines.stands(t) {
			again, wait = true, tenant.RefusedTime
			r.lines.leave(t, err)
		}
		if !again || backoff.Sleep(r.ctx, wait) != nil {
			r.lines.leave(t, err)
			return
		}
	}
}

// ticketTombstone is for how long the end of a ticket is kept: there may be many. Nobody has to see it, but for a write that may be under way yet.
const ticketTombstone = 10 * time.Second

// discard purges a ticket's key once, on top of what stands there, be it nothing: a write of it that is under way comes behind it, and is refused.
func (r *Registry) discard(t *ticket) error {
	w := tenant.Write{Key: t.key, Op: tenant.Purge, If: tenant.At(r.lines.standing(t).place)}
	if t.once {
		w.TTL = ticketTombstone
	}
	_, err := r.write(r.ctx, w)
	if !errors.Is(err, tenant.ErrConflict) {
		return err
	}
	last, err := r.bucket.Last(r.ctx, t.key)
	if err != nil || last.Revision > 0 && last.Op != tenant.Put {
		return err
	}
	w.If = tenant.At(last.Revision)
	_, err = r.write(r.ctx, w)
	return err
}

// ticketValue is the value of a ticket's key. All but the format and the lease is for people to read.
func ticketValue(owner, lease string) []byte {
	data, _ := json.Marshal(struct { // strings and numbers marshal
		Format int    `json:"format"`
		Lease  string `json:"lease"`
		Owner  string `json:"owner"`
		Host   string `json:"host,omitempty"`
		PID    int    `json:"pid"`
	}{format, lease, owner, hostname(), os.Getpid()})
	return data
}
