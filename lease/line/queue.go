package line

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/tenant"
)

// Hold stands in the line for a name until this process holds it, or ctx ends. The error wraps
// ctx's, Config.Closed, or [tenant.ErrInvalidName], [tenant.ErrPermission],
// [tenant.ErrStorageFull].
func (ls *Lines) Hold(ctx context.Context, name string) (*Hold, error) {
	filter, err := tenant.LockFilter(name)
	if err == nil {
		err = ls.watch(ctx, filter)
	}
	for err == nil {
		var h *Hold
		if h, err = ls.queue(ctx, name, filter); h != nil {
			return h, nil
		}
		if errors.Is(err, errGone) { // at the end of the line, under the next lease
			err = ctx.Err()
		}
	}
	return nil, err
}

// queue takes a place and waits for its turn. The error is errGone if the place was lost.
func (ls *Lines) queue(ctx context.Context, name, filter string) (*Hold, error) {
	t, err := ls.takeTicket(ctx, name, filter)
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
			ls.removeLater(t, nil)
		}
	}()
	if err = ls.write(ctx, t); err == nil {
		err = ls.awaitTurn(ctx, t)
	}
	if err == nil {
		h = &Hold{lines: ls, name: name, ticket: t, token: ls.granted(t), done: make(chan struct{})}
	}
	if !ls.removeLater(t, h) {
		h, err = nil, ls.cfg.Closed
	}
	through = h == nil
	ls.tellTurn(t, h, err)
	through = true
	return h, err
}

// takeTicket makes a ticket for which there is room, under the lease that there is or will be.
func (ls *Lines) takeTicket(ctx context.Context, name, filter string) (*ticket, error) {
	key := tenant.TicketKey(filter, rand.Text()[:16])
	size := len(wire.Ticket(ls.cfg.Owner, strings.Repeat("x", wire.LongestLeaseID)))
	if err := ls.bucket.Room(ctx, key, size); err != nil {
		return nil, err
	}
	l, err := ls.keeper.Lease(ctx)
	if err != nil {
		return nil, err
	}
	return ls.enter(name, key, l)
}

// retryCurve is the time between two tries at a ticket's key.
var retryCurve = backoff.Curve{Least: 10 * time.Millisecond, Most: 250 * time.Millisecond}

// crowd is how many keys are written at once. A request that waits for longer than an attempt may
// take is sent again. Of thousands at once all would be, and they would never end.
const crowd = 256

// put does one write, in its place in the crowd.
func (ls *Lines) put(ctx context.Context, w tenant.Write) error {
	select {
	case ls.crowd <- struct{}{}:
		defer func() { <-ls.crowd }()
		_, err := ls.bucket.Write(ctx, w)
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write writes a ticket's key once. A key that is there already is that of a try whose answer was
// lost, because nobody else has its id.
func (ls *Lines) write(ctx context.Context, t *ticket) error {
	w := tenant.Write{Key: t.key, Value: wire.Ticket(ls.cfg.Owner, t.lease.ID), If: tenant.At(0)}
	for n := 0; ; n++ {
		err := ls.put(ctx, w)
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
		if over := ls.over(t); over != nil {
			return over
		}
	}
}

// doubtTime is how often the first ticket of a line checks whether its lease is certain again.
const doubtTime = 20 * time.Millisecond

// awaitTurn waits until a ticket is the first in its line, under a lease that is certain.
func (ls *Lines) awaitTurn(ctx context.Context, t *ticket) error {
	check := time.NewTicker(ls.cfg.Check)
	defer check.Stop()
	for {
		s := ls.standing(t)
		switch {
		case s.over != nil:
			return s.over
		case t.lease.Err() != nil: // it may be refused long before it is uncertain
			return errGone
		}
		if s.place > 0 && s.ahead > 0 && !t.waits {
			t.waits = true
			ls.cfg.Journal.Say("kvregistry: waits for a name", 1, "name", journal.Plain(t.name),
				"ahead", s.ahead)
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
		case <-check.C:
			if s.place == 0 && ls.lost(ctx, t) {
				return errGone
			}
		case <-ctx.Done():
			return ls.cutShort(ctx, t)
		}
	}
}

// cutShort is the error of a wait whose ctx has ended.
func (ls *Lines) cutShort(ctx context.Context, t *ticket) error {
	if why := ls.view.Failure(); why != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), why)
	}
	return fmt.Errorf("%w: %d stand before", ctx.Err(), ls.standing(t).ahead)
}

// lost reports whether the key of a ticket that the view has not shown was removed before the view
// came to it.
func (ls *Lines) lost(ctx context.Context, t *ticket) bool {
	_, found, err := ls.bucket.Get(ctx, t.key)
	return err == nil && !found
}

// tellTurn logs what a wait for a name came to.
func (ls *Lines) tellTurn(t *ticket, h *Hold, err error) {
	switch {
	case h != nil:
		ls.cfg.Journal.Say("kvregistry: holds a name", 1, "name", journal.Plain(h.name),
			"token", h.token)
	case t.waits && err != nil && !errors.Is(err, errGone): // Hold takes another place
		ls.cfg.Journal.Say("kvregistry: waits no more for a name", 1,
			"name", journal.Plain(t.name), "cause", journal.Plain(err.Error()))
	}
}

// removeLater removes a ticket's key after its hold, if there is one. It reports false after Stop:
// the key then goes with the lease.
func (ls *Lines) removeLater(t *ticket, h *Hold) bool {
	ls.mu.Lock()
	started := ls.ctx.Err() == nil
	if started {
		ls.wg.Go(func() { // ends with ls.ctx; Stop waits
			if h != nil {
				h.keep()
			}
			ls.remove(t)
		})
	}
	ls.mu.Unlock()
	if !started {
		ls.forget(t, ls.cfg.Closed)
	}
	return started
}

// remove removes a ticket's key, and goes on trying while the key may stand in others' way. If the
// server refuses the removal, callers that wait are told at once, and remove asks again:
// permissions may come back, and nobody else ends the key while its lease lives.
func (ls *Lines) remove(t *ticket) {
	ls.giveUp(t)
	for n := 0; ; n++ {
		wait := retryCurve.After(n)
		err := ls.purge(t)
		again := err != nil && (!tenant.Permanent(err) || errors.Is(err, tenant.ErrStorageFull))
		if errors.Is(err, tenant.ErrPermission) && ls.stands(t) {
			again, wait = true, tenant.RefusedTime
			ls.forget(t, err)
		}
		if !again || backoff.Sleep(ls.ctx, wait) != nil {
			ls.forget(t, err)
			return
		}
	}
}

// tombstone is how long the end of a ticket is kept. There may be many, and only a write that is
// still under way has to meet it.
const tombstone = 10 * time.Second

// purge purges a ticket's key on top of what stands there, even if that is nothing: a write that is
// under way then comes behind the purge, and is refused.
func (ls *Lines) purge(t *ticket) error {
	w := tenant.Write{Key: t.key, Op: tenant.Purge, If: tenant.At(ls.standing(t).place)}
	if t.once {
		w.TTL = tombstone
	}
	err := ls.put(ls.ctx, w)
	if !errors.Is(err, tenant.ErrConflict) {
		return err
	}
	last, err := ls.bucket.Last(ls.ctx, t.key)
	if err != nil || last.Revision > 0 && last.Op != tenant.Put {
		return err
	}
	w.If = tenant.At(last.Revision)
	return ls.put(ls.ctx, w)
}
