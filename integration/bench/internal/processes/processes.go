// Package processes measures what idle processes with a registration cost a server.
package processes

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/integration/bench/internal/natsproc"
	"github.com/kvregistry/go/kvregistry"
)

const (
	perConnection = 20 // registries that share a connection
	// Between two that come; newcomers cost more than idle ones.
	pace = 20 * time.Millisecond
)

// Fleet is registries that stand for a process each, and a server of their own.
type Fleet struct {
	servers *natsproc.Servers
	empty   int64 // the server's memory before the first registry came
	conns   []*nats.Conn
	regs    []*kvregistry.Registry
	lost    atomic.Int64 // leases
}

// Start starts n registries with a registration each, all of one tenant, and lets them settle. The
// caller must call [Fleet.Stop] unless Start returns an error.
func Start(ctx context.Context, n int, ttl time.Duration) (*Fleet, error) {
	servers, err := natsproc.Start(1, "")
	if err != nil {
		return nil, err
	}
	f := &Fleet{servers: servers, regs: make([]*kvregistry.Registry, n)}
	f.empty = natsproc.UsageOf(servers.List[0].PID).Memory
	err = f.open(ctx, ttl)
	if err == nil {
		err = sleep(ctx, 2*ttl) // the work of newcomers is over by then
	}
	if err != nil {
		f.Stop()
		return nil, err
	}
	return f, nil
}

// open starts one registry after the other, so that their heartbeats do not come all at once. The
// first is alone for a while: it takes a slot and is ready, and the others need not look for dead
// leases themselves.
func (f *Fleet) open(ctx context.Context, ttl time.Duration) error {
	for i := range f.regs {
		if i%perConnection == 0 {
			nc, err := nats.Connect(f.servers.URL(), nats.MaxReconnects(-1))
			if err != nil {
				return err
			}
			f.conns = append(f.conns, nc)
		}
		if err := f.openOne(ctx, i, ttl); err != nil {
			return fmt.Errorf("processes: number %d of %d: %w", i+1, len(f.regs), err)
		}
		wait := pace
		if i == 0 {
			wait = max(ttl, 3*time.Second) + ttl/4
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fleet) openOne(ctx context.Context, i int, ttl time.Duration) error {
	reg, err := kvregistry.New(ctx, f.conns[i/perConnection], kvregistry.TTL(ttl),
		kvregistry.Logger(slog.New(slog.DiscardHandler)),
		kvregistry.OnLeaseLost(func(error) { f.lost.Add(1) }))
	if err != nil {
		return err
	}
	f.regs[i] = reg
	s := kvregistry.Service{Name: "web", ID: fmt.Sprint(i), Address: "127.0.0.1:8083"}
	_, err = reg.Register(s)
	return err
}

// Stop ends the registries and the server.
func (f *Fleet) Stop() {
	var wg sync.WaitGroup
	for _, reg := range f.regs {
		if reg != nil {
			wg.Go(func() { _ = reg.Close() })
		}
	}
	wg.Wait()
	for _, nc := range f.conns {
		nc.Close()
	}
	f.servers.Stop()
}

// Cost is what the fleet cost the server, including the registries that reap.
type Cost struct {
	Processes int
	In, Out   float64 // messages per process and second, as the server counts them
	Processor float64 // cores
	Memory    int64   // that the server held at the end, in bytes
	Added     int64   // how much of that an empty server does not hold
}

// Measure returns what a window of time cost. It returns an error if the fleet was not idle then,
// because a connection or a lease was lost.
func (f *Fleet) Measure(ctx context.Context, window time.Duration) (Cost, error) {
	server, faults := f.servers.List[0], f.faults()
	began, used := time.Now(), natsproc.UsageOf(server.PID)
	traffic, err := server.Traffic()
	if err != nil {
		return Cost{}, err
	}
	if err := sleep(ctx, window); err != nil {
		return Cost{}, err
	}
	took, usedNow := time.Since(began).Seconds(), natsproc.UsageOf(server.PID)
	trafficNow, err := server.Traffic()
	if err != nil {
		return Cost{}, err
	}
	if n := f.faults() - faults; n > 0 {
		return Cost{}, fmt.Errorf("processes: %d faults while they should be idle", n)
	}
	traffic = trafficNow.Since(traffic)
	each := took * float64(len(f.regs))
	return Cost{
		Processes: len(f.regs),
		In:        float64(traffic.InMsgs) / each,
		Out:       float64(traffic.OutMsgs) / each,
		Processor: (usedNow.Processor - used.Processor).Seconds() / took,
		Memory:    usedNow.Memory,
		Added:     usedNow.Memory - f.empty,
	}, nil
}

// faults counts the connections and leases that were lost so far, and the registrations that are
// not written now.
func (f *Fleet) faults() int {
	n := int(f.lost.Load())
	for _, nc := range f.conns {
		n += int(nc.Stats().Reconnects)
	}
	for _, reg := range f.regs {
		n += reg.Health().Unwritten
	}
	return n
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
