package kvregistry

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/journal"
)

// OnHealth has f called as the option [OnHealth] does, at first with what is so now. stop ends the
// calls: one that runs may go on after it has returned. The error wraps [ErrInvalidOption] if f is
// nil, or [ErrClosed].
func (r *Registry) OnHealth(f func(Health)) (stop func(), err error) {
	if f == nil {
		return nil, fmt.Errorf("kvregistry: %w: OnHealth is nil", ErrInvalidOption)
	}
	ctx, cancel := context.WithCancel(r.ctx)
	// ends with ctx; Close waits for a moment
	if !r.goUnlessClosed(&r.calls, func() { tellHealth(ctx, r, []func(Health){f}) }) {
		cancel()
		return nil, fmt.Errorf("kvregistry: %w", ErrClosed)
	}
	return cancel, nil
}

// tellHealth runs OnHealth's functions until ctx ends.
func tellHealth(ctx context.Context, r *Registry, functions []func(Health)) {
	type turn struct{ ok, current bool }
	t := time.NewTicker(healthTime)
	defer t.Stop()
	for told, was := false, (turn{}); ctx.Err() == nil; {
		h := r.Health()
		if now := (turn{h.OK(), h.Current()}); !told || now != was {
			told, was = true, now
			tell(&r.lifetime, functions, h)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
}

// tellNATS logs that NATS is away, and that it is back.
func (o *observer) tellNATS() {
	nc := o.opt.nc
	status := nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.CLOSED)
	defer nc.RemoveStatusListener(status)
	var since time.Time // it is away; zero while it is not
	for lost := false; ; {
		away := o.bucket.Disconnected()
		if nc.IsClosed() {
			cause := cmp.Or(errorText(o.bucket.LastError()), "its owner closed it")
			o.log.Warn("kvregistry: the connection to NATS was closed, this registry does "+
				"nothing any more", "cause", journal.Plain(cause))
			return
		}
		if since.IsZero() && (lost || away != nil) {
			since = time.Now()
			status := "connection " + strings.ToLower(nc.Status().String())
			cause := cmp.Or(errorText(o.bucket.LastError()), status)
			o.journal.Say("kvregistry: NATS is away", 1, "cause", journal.Plain(cause))
		}
		if away == nil && !since.IsZero() {
			o.journal.Say("kvregistry: NATS is back", 1,
				"away", time.Since(since).Round(time.Millisecond))
			since = time.Time{}
		}
		select {
		case now := <-status:
			lost = now == nats.RECONNECTING // it may be back by now
		case <-o.closing.Done():
			return
		}
	}
}
