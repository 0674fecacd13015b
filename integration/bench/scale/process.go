package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// process is a simulated one: a lease that it renews as package lease does, and one registration.
// It does not watch its own key.
type process struct {
	bucket  *tenant.Bucket
	lease   string
	owner   string
	service kvregistry.Service
	key     string        // of the registration
	counts  bool          // observers are to be told of its coming: it was not there before them
	crashed chan struct{} // closed when it has to send no more heartbeats

	rev    uint64 // of the last acknowledged heartbeat; only its own goroutine uses this and unsure
	unsure bool   // a heartbeat's answer did not come

	registered atomic.Int64 // observers that were told that it came,
	gone       atomic.Int64 // and that it went

	mu    sync.Mutex // guards what follows
	began time.Time  // when its registration's write began
	// A TTL after the last acknowledged heartbeat was begun: no expiry may come earlier.
	until time.Time
	dead  bool // it sends no heartbeat any more
	void  bool // it was told that it is not registered, even if it is: another takes its place
}

func newProcess(b *tenant.Bucket, service string, counts bool) (*process, error) {
	p := &process{
		bucket: b, lease: rand.Text(), owner: rand.Text(), counts: counts,
		crashed: make(chan struct{}),
		service: kvregistry.Service{ID: rand.Text()[:16], Name: service, Address: "127.0.0.1:8083",
			Host: hostname, Status: kvregistry.Passing},
	}
	var err error
	p.key, err = tenant.ServiceKey(p.service.Name, p.service.ID)
	return p, err
}

var hostname, _ = os.Hostname()

// register takes the lease, for a first ttl, and then writes the registration.
func (p *process) register(ctx context.Context, ttl time.Duration) error {
	if err := p.renew(ctx, ttl); err != nil {
		return err
	}
	value, err := json.Marshal(map[string]any{"format": 1, "lease": p.lease, "owner": p.owner,
		"instance": p.service})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.began = time.Now()
	p.mu.Unlock()
	_, err = p.bucket.Write(ctx, tenant.Write{Key: p.key, Value: value})
	return err
}

// giveUp ends one that could not register. If it was written all the same, it runs out with its
// lease.
func (p *process) giveUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.void = true
}

func (p *process) isVoid() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.void
}

// renew does one heartbeat; the first one takes the lease.
func (p *process) renew(ctx context.Context, ttl time.Duration) error {
	value := fmt.Appendf(nil, `{"format":1,"owner":%q,"host":%q,"pid":%d,"ttl":%q}`, p.owner,
		hostname, os.Getpid(), ttl)
	began := time.Now()
	rev, err := p.bucket.Write(ctx, tenant.Write{Key: tenant.LeaseKey(p.lease), Value: value,
		TTL: ttl, If: tenant.At(p.rev)})
	if err != nil {
		return err
	}
	p.rev = rev
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = began.Add(ttl)
	return nil
}

// interval returns the time from one heartbeat to the next, by the rule of package lease.
func interval(ttl time.Duration) time.Duration {
	third := ttl / 3
	return third - mathrand.N(third/10)
}

var errLost = errors.New("the lease was lost")

// live sends heartbeats until ctx ends or the process crashes, which it does between two of them.
// first is the time to the first one. It returns errLost if the lease ran out in spite of them.
func (p *process) live(ctx context.Context, ttl, first time.Duration, beats *beats) error {
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.crashed:
			p.mu.Lock()
			defer p.mu.Unlock()
			p.dead = true
			return nil
		case <-timer.C:
		}
		wait, err := p.beat(ctx, ttl, beats)
		if err != nil {
			return err
		}
		timer.Reset(wait)
	}
}

// beat sends a heartbeat, and returns when the next one is due.
func (p *process) beat(ctx context.Context, ttl time.Duration,
	beats *beats) (next time.Duration, err error) {
	if p.unsure {
		e, found, err := p.bucket.Get(ctx, tenant.LeaseKey(p.lease))
		switch {
		case err == nil && !found:
			return 0, errLost
		case err == nil:
			p.rev = e.Revision
		}
	}
	began := time.Now()
	err = p.renew(ctx, ttl)
	switch {
	case err == nil:
		p.unsure = false
		beats.took.add(time.Since(began))
		return interval(ttl), nil
	case errors.Is(err, tenant.ErrConflict) && !p.unsure:
		return 0, errLost
	case ctx.Err() == nil:
		beats.failed.Add(1)
	}
	p.unsure = true
	return ttl / 12, nil
}

// beats counts the outcomes of all heartbeats.
type beats struct {
	took   samples // from the write to its acknowledgement
	failed atomic.Int64
	lost   atomic.Int64 // leases
}
