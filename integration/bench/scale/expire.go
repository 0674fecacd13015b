package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
)

// expireAll has so many leases run out at once, for each of the numbers, and measures when the
// observers' caches have dropped them.
func expireAll(ctx context.Context, b *bench) error {
	conns, err := b.connectSeveral()
	if err != nil {
		return err
	}
	fmt.Printf("leases of %s, %d reapers, one observer of all services\n\n%s", b.ttl,
		len(b.reapers), sampleHead)
	for _, n := range b.expire {
		if err := expire(ctx, b, conns, n); err != nil {
			return err
		}
	}
	return nil
}

// expire makes n processes come, send a last heartbeat and crash.
func expire(ctx context.Context, b *bench, conns []*nats.Conn, n int) error {
	const perService = 10
	f, err := newFleet(ctx, conns, max(1, n/perService), b.ttl)
	if err != nil {
		return err
	}
	w := &watch{fleet: f}
	if err := b.open(ctx, conns[0], kvregistry.WithoutReaping(),
		kvregistry.OnEvent(w.event)); err != nil {
		return err
	}
	o := observer{b.registries[len(b.registries)-1], []string{kvregistry.Everything}}
	if err := o.begin(ctx); err != nil {
		return err
	}
	list := make([]*process, n)
	err = inParallel(writers, n, func(i int) (err error) {
		list[i], err = f.come(ctx, i, true, b.ttl+patience) // until all are there
		return err
	})
	if err != nil {
		return err
	}
	if err := await(ctx, patience, "the observer knows of all", func() bool {
		return w.came.count() == n
	}); err != nil {
		return err
	}
	began := time.Now()
	if err := inParallel(writers, n, func(i int) error {
		return list[i].last(ctx, b.ttl)
	}); err != nil {
		return err
	}
	renewed := time.Since(began)
	if err := await(ctx, b.ttl+patience, "the observer has dropped all", func() bool {
		return w.went.count() >= n
	}); err != nil {
		return err
	}
	fmt.Print(w.went.row(fmt.Sprintf("%d leases, renewed within %d ms: from the TTL's end to the "+
		"event", n, renewed.Milliseconds())))
	if early := w.early.Load(); early > 0 {
		return fmt.Errorf("scale: %d expiries before the TTL's end", early)
	}
	return o.reg.Close()
}

// last sends the last heartbeat of a process.
func (p *process) last(ctx context.Context, ttl time.Duration) error {
	if err := p.renew(ctx, ttl); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
	return nil
}
