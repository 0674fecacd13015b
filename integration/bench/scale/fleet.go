package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// fleet is the simulated processes.
type fleet struct {
	buckets  []*tenant.Bucket // one for each connection that they share
	services int
	ttl      time.Duration
	beats    beats
	byID     sync.Map       // of all that there ever were, by the instance's id
	failed   atomic.Int64   // that could not register
	wg       sync.WaitGroup // their goroutines

	mu     sync.Mutex // guards what follows
	living []*process
	dead   []*process
}

func newFleet(ctx context.Context, conns []*nats.Conn, services int,
	ttl time.Duration) (*fleet, error) {
	f := &fleet{services: services, ttl: ttl}
	for _, nc := range conns {
		b, err := tenant.New(nc, kvregistry.DefaultTenant, tenant.Config{})
		if err != nil {
			return nil, err
		}
		if err := b.Ensure(ctx); err != nil {
			return nil, err
		}
		f.buckets = append(f.buckets, b)
	}
	return f, nil
}

func serviceName(i int) string { return fmt.Sprintf("service-%04d", i) }

// find returns the process that registered an instance, or nil.
func (f *fleet) find(id string) *process {
	p, ok := f.byID.Load(id)
	if !ok {
		return nil
	}
	return p.(*process)
}

// come makes the i-th process and registers it, for a first ttl.
func (f *fleet) come(ctx context.Context, i int, counts bool, ttl time.Duration) (*process, error) {
	p, err := newProcess(f.buckets[i%len(f.buckets)], serviceName(i%f.services), counts)
	if err != nil {
		return nil, err
	}
	f.byID.Store(p.service.ID, p)
	if err := p.register(ctx, ttl); err != nil {
		p.giveUp()
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.living = append(f.living, p)
	return p, nil
}

// keep makes a process send its heartbeats, in a goroutine that ends with ctx or the process; f.wg
// waits for it.
func (f *fleet) keep(ctx context.Context, p *process, first time.Duration) {
	f.wg.Go(func() {
		if p.live(ctx, f.ttl, first, &f.beats) != nil {
			f.beats.lost.Add(1)
		}
	})
}

// start starts the first n processes. Their heartbeats are spread like those of processes that came
// one by one.
func (f *fleet) start(ctx context.Context, n int) error {
	return inParallel(writers, n, func(i int) error {
		p, err := f.come(ctx, i, false, f.ttl)
		if err == nil {
			f.keep(ctx, p, rand.N(f.ttl/3))
		}
		return err
	})
}

// churn makes one process crash and one come after each such time, until stop is called. Those that
// come live until ctx ends.
func (f *fleet) churn(ctx context.Context, every time.Duration) (stop func()) {
	if every == 0 {
		return func() {}
	}
	tick, done := time.NewTicker(every), make(chan struct{})
	f.wg.Go(func() { // ends with done
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				f.crash()
				f.wg.Go(func() { f.arrive(ctx) }) // ends with the process
			}
		}
	})
	return sync.OnceFunc(func() { tick.Stop(); close(done) })
}

// crash ends one of the living processes.
func (f *fleet) crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.living) == 0 {
		return
	}
	i, last := rand.N(len(f.living)), len(f.living)-1
	p := f.living[i]
	f.living[i] = f.living[last]
	f.living = f.living[:last]
	f.dead = append(f.dead, p)
	close(p.crashed)
}

// arrive starts one process during the measurement. It tries for as long as a registry's Register
// does.
func (f *fleet) arrive(ctx context.Context) {
	i, began := rand.N(f.services*len(f.buckets)), time.Now()
	for {
		p, err := f.come(ctx, i, true, f.ttl)
		switch {
		case err == nil:
			f.keep(ctx, p, interval(f.ttl))
			return
		case ctx.Err() != nil:
			return
		case time.Since(began) > registerTime:
			if f.failed.Add(1) == 1 {
				slog.Error("a process could not register, and more may follow", "cause", err)
			}
			return
		}
	}
}

// registerTime is how long a registry's Register tries.
const registerTime = 5 * time.Second

// ended returns the processes that crashed.
func (f *fleet) ended() []*process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.dead)
}

// registered returns the ids of the living, by service.
func (f *fleet) registered() map[string]map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	by := map[string]map[string]bool{}
	for _, p := range f.living {
		if by[p.service.Name] == nil {
			by[p.service.Name] = map[string]bool{}
		}
		by[p.service.Name][p.service.ID] = true
	}
	return by
}

const writers = 64 // processes that register at once, at the start

// inParallel calls f for 0 to n-1, so many of them at once, and returns an error that one of them
// returned.
func inParallel(workers, n int, f func(i int) error) (err error) {
	next := make(chan int)
	var wg sync.WaitGroup
	var once sync.Once
	for range min(workers, n) {
		wg.Go(func() {
			for i := range next {
				if e := f(i); e != nil {
					once.Do(func() { err = e })
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return err
}
