package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/tenant"
)

// errUnchecked says that nothing can be done with the bucket yet.
var errUnchecked = errors.New("the bucket was not checked yet")

// provisioner checks the server and the bucket, once, before anything else is done with them.
type provisioner struct {
	life   *lifetime
	bucket *tenant.Bucket
	start  func(context.Context) error // starts what watches and reaps

	toldMade atomic.Int64 // when the bucket was made that the log tells of

	stateMu sync.Mutex          // guards what follows
	changed bell.Broadcast      // ready or failure changed
	ready   bool                // the bucket was checked
	failure error               // why it was not
	needs   map[string]struct{} // the names that Health.Ready waits for; see need
}

// provisionNow is provision for a caller that waits: until ctx ends, or for 10 s if it has no
// deadline.
func (p *provisioner) provisionNow(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 2*writeTime)
		defer cancel()
	}
	return p.provision(ctx, true)
}

// provisionCurve is the time between two tries of provision.
var provisionCurve = backoff.Curve{Least: 50 * time.Millisecond, Most: 2 * time.Second}

// provision makes the bucket usable and starts what watches and reaps. It tries again until ctx
// ends; with once, it returns a fault that stays.
func (p *provisioner) provision(ctx context.Context, once bool) error {
	told := false // that it is refused
	for n := 0; ; n++ {
		err := p.prepare(ctx)
		if err == nil {
			if told {
				p.life.journal.SayLater("kvregistry: the bucket can be used now", 1)
			}
			for _, advice := range p.bucket.Advice() {
				p.life.log.Warn("kvregistry: the server or the bucket should be changed",
					"advice", advice)
			}
			return nil
		}
		p.setState(false, err)
		if once && tenant.Permanent(err) {
			return err
		}
		if !once && !told && refuses(err) {
			told = true
			p.life.log.Warn("kvregistry: the bucket can't be used, trying again",
				"cause", journal.Plain(err.Error()))
		}
		switch over := backoff.SleepOr(ctx, provisionCurve.After(n), p.life.ctx.Done()); {
		case p.life.ctx.Err() != nil:
			return ErrClosed
		case over != nil:
			return err
		}
	}
}

func (p *provisioner) prepare(ctx context.Context) error {
	err := p.ensure(ctx)
	if err == nil {
		err = p.start(ctx)
	}
	if err == nil {
		p.setState(true, nil)
	}
	return err
}

// ensure is the bucket's Ensure. It logs that it made the bucket, because the tenant may be another
// one than was meant.
func (p *provisioner) ensure(ctx context.Context) error {
	err := p.bucket.Ensure(ctx)
	if made := p.bucket.Made(); !made.IsZero() &&
		p.toldMade.Swap(made.UnixNano()) != made.UnixNano() {
		p.life.journal.SayLater("kvregistry: the tenant had no bucket, made one", 1, "bucket",
			p.bucket.Name())
	}
	return err
}

func (p *provisioner) setState(ready bool, failure error) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	p.ready, p.failure = ready, failure
	p.changed.Send()
}

// state returns whether the bucket was checked, or why it was not.
func (p *provisioner) state() (ready bool, failure error) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	return p.ready, p.failure
}

// awaitReady waits until the bucket was checked. It returns a fault that stays at once.
func (p *provisioner) awaitReady(ctx context.Context) error {
	for {
		changed := p.changed.Next()
		ready, failure := p.state()
		switch {
		case ready:
			return nil
		case failure != nil && tenant.Permanent(failure):
			return failure
		}
		select {
		case <-changed:
		case <-p.life.closing.Done():
			return ErrClosed
		case <-ctx.Done():
			if failure != nil {
				return fmt.Errorf("%w: %w", ctx.Err(), failure)
			}
			if why := p.bucket.Disconnected(); why != nil {
				return fmt.Errorf("%w: %w", ctx.Err(), why)
			}
			return p.bucket.Blame(ctx.Err())
		}
	}
}

// need notes a name without which the process is not ready: one that Observe or Lookup was given,
// or that was looked up before the bucket was checked. A name that is looked up later is not
// needed: otherwise one look-up of a new name during an outage would make the process not ready.
func (p *provisioner) need(name string) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	if p.needs == nil {
		p.needs = map[string]struct{}{}
	}
	p.needs[name] = struct{}{}
}

// needNot takes back what need noted.
func (p *provisioner) needNot(name string) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	delete(p.needs, name)
}

// needed are those of some names that need noted.
func (p *provisioner) needed(names []string) (list []string) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	for _, name := range names {
		if _, ok := p.needs[name]; ok {
			list = append(list, name)
		}
	}
	return list
}
