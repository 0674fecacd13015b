package kvregistry

import (
	"cmp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/journal"
)

// tellHealth runs OnHealth's functions.
func tellHealth(r *Registry) {
	t := time.NewTicker(healthTime)
	defer t.Stop()
	for told, was := false, false; ; {
		if h := r.Health(); !told || h.OK() != was {
			told, was = true, h.OK()
			tell(&r.lifetime, r.opt.onHealth, h)
		}
		select {
		case <-t.C:
		case <-r.ctx.Done():
			return
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
