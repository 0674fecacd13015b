package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// watch is what the observers were told, compared with what the fleet did.
type watch struct {
	fleet *fleet
	began samples // from an observer's first Observe to the whole snapshot of its services
	came  samples // from the begin of a registration's write to its event
	went  samples // from the end of a lease's TTL to the event that its registration is gone
	told  atomic.Int64

	early    atomic.Int64 // expiries before the TTL's end
	vanished atomic.Int64 // instances of living processes that went
	unknown  atomic.Int64 // instances that were never registered
}

// event records each change that an observer is told. The observer's cache has it by then.
func (w *watch) event(e kvregistry.Event) {
	now := time.Now()
	w.told.Add(1)
	p := w.fleet.find(e.Service.ID)
	if p == nil {
		w.unknown.Add(1)
		return
	}
	p.mu.Lock()
	began, until, dead, void := p.began, p.until, p.dead, p.void
	p.mu.Unlock()
	if void {
		return
	}
	switch e.Kind {
	case kvregistry.Registered:
		p.registered.Add(1)
		if p.counts {
			w.came.add(now.Sub(began))
		}
	case kvregistry.Expired, kvregistry.Unregistered:
		p.gone.Add(1)
		if !dead {
			w.vanished.Add(1)
			return
		}
		if now.Before(until) {
			w.early.Add(1)
		}
		w.went.add(now.Sub(until))
	}
}

// observer is a registry that observes some services.
type observer struct {
	reg   *kvregistry.Registry
	names []string
}

// observers has all observers. Together they observe each service about as often as any other.
type observers struct {
	list []observer
	of   map[string]int64 // how many observe a service
}

// observe opens the observers and waits until each has a first snapshot.
func (w *watch) observe(ctx context.Context, b *bench) (*observers, error) {
	all := &observers{of: map[string]int64{}}
	conns, err := b.connectSeveral()
	if err != nil {
		return nil, err
	}
	for i := range b.observers {
		if err := b.open(ctx, conns[i%len(conns)], kvregistry.WithoutReaping(),
			kvregistry.OnEvent(w.event)); err != nil {
			return nil, err
		}
		o := observer{reg: b.registries[len(b.registries)-1]}
		for j := range b.observed {
			name := serviceName((i*b.observed + j) % b.services)
			o.names = append(o.names, name)
			all.of[name]++
		}
		all.list = append(all.list, o)
	}
	return all, inParallel(b.atOnce, len(all.list), func(i int) error {
		began := time.Now()
		err := all.list[i].begin(ctx)
		w.began.add(time.Since(began))
		return err
	})
}

// begin observes the services, and waits for all of them.
func (o observer) begin(ctx context.Context) error {
	for _, name := range o.names {
		if err := o.reg.Observe(name); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, name := range o.names {
		if err := o.reg.ObserveContext(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// differences returns the instances that an observer shows and that are not registered, and those
// that it does not show though they live.
func (all *observers) differences(registered map[string]map[string]bool) (
	ghosts, missing int, err error) {
	for _, o := range all.list {
		for _, name := range o.names {
			snap, err := o.reg.Snapshot(name)
			if err != nil {
				return 0, 0, fmt.Errorf("scale: service %q: %w", name, err)
			}
			shown := 0
			for s := range snap.All() {
				if registered[name][s.ID] {
					shown++
				} else {
					ghosts++
				}
			}
			missing += len(registered[name]) - shown
		}
	}
	return ghosts, missing, nil
}

// untold returns the changes that observers were not told: instances that came, and that went.
func (all *observers) untold(f *fleet) (came, went int64) {
	f.byID.Range(func(_, value any) bool {
		if p := value.(*process); p.counts && !p.isVoid() {
			came += max(0, all.of[p.service.Name]-p.registered.Load())
		}
		return true
	})
	for _, p := range f.ended() {
		went += max(0, all.of[p.service.Name]-p.gone.Load())
	}
	return came, went
}
