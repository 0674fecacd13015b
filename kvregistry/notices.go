package kvregistry

import (
	"fmt"
	"sync/atomic"

	"github.com/kvregistry/go/internal/journal"
)

// notices tell the user's functions what happened to this process's own lease and registrations.
type notices struct {
	about  *observer
	events *queue // of OnEvent; nil if it was not asked for

	losses, fenced atomic.Uint64 // so far: leases that were lost, and registrations taken over
}

// leaseLost tells the functions of OnLeaseLost and OnEvent. It does not wait for them.
func (n *notices) leaseLost(err error) {
	n.losses.Add(1)
	if n.events != nil {
		add(n.events, Event{Kind: LeaseLost, Err: err})
	}
	o := n.about
	o.goUnlessClosed(&o.calls, func() { tell(&o.lifetime, o.opt.onLeaseLost, err) })
}

// tellFenced tells the functions of OnFenced and OnEvent. It does not wait for them.
func (n *notices) tellFenced(s Service) {
	n.fenced.Add(1)
	err := fmt.Errorf("%w: %q of service %q", ErrFenced, s.ID, s.Name)
	if n.events != nil {
		add(n.events, Event{Kind: Fenced, Service: s, Err: err})
	}
	o := n.about
	o.goUnlessClosed(&o.calls, func() {
		o.log.Warn("kvregistry: a newer registration of the same id took over",
			"service", journal.Plain(s.Name), "instance", journal.Plain(s.ID))
		tell(&o.lifetime, o.opt.onFenced, s)
	})
}

// tellEvents calls OnEvent's functions. It ends with the registry.
func (n *notices) tellEvents() {
	for o := n.about; ; {
		e, ok := n.events.Next(o.ctx, o.ctx)
		if !ok {
			return
		}
		tell(&o.lifetime, o.opt.onEvent, e)
	}
}
