package lease

import (
	"cmp"
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/tenant"
)

// KeeperConfig describes a keeper's leases. All but Value, Keyed and Begin are needed. Begin,
// Granted and Lost are called in the keeper's goroutine, in order, and must not block.
type KeeperConfig struct {
	TTL     time.Duration // see [CheckTTL]
	Value   []byte        // what stands in the lease's key
	Keyed   bool          // nobody else can renew a lease; Value must be a JSON object with members
	Begin   func()        // called once, before the first lease is asked for
	Granted func()
	Lost    func(error)
	Logger  *slog.Logger
}

// Keeper holds one lease at a time. Its methods may be called by any number of goroutines.
type Keeper struct {
	bucket  *tenant.Bucket
	cfg     KeeperConfig
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup
	hurry   chan struct{}  // the next try need not wait; holds one
	answers chan answer    // to heartbeats, late ones too
	granted bell.Broadcast // a lease was granted, or none is available

	missed    atomic.Uint64 // heartbeats that failed, or were not answered soon
	roundTrip atomic.Int64  // nanoseconds that the last acknowledged heartbeat took

	// The keeper's goroutine alone uses these.
	moved time.Time // when another server was last tried, or the keeper began
	moves int       // servers tried since the last acknowledged heartbeat

	mu         sync.Mutex // guards what follows
	started    bool
	lease      *Lease // the last one that was granted; nil if none was
	failure    error  // why the last grant failed; nil after one that did not
	tries      uint64 // grants that failed so far
	proof      proof  // by the acknowledged writes on one connection
	reconnects uint64 // of the connection at the last of these writes
}

// NewKeeper makes a keeper. The keeper takes a lease when it is first asked for one, and
// [Keeper.Close] ends it. The error is that of [CheckTTL].
func NewKeeper(b *tenant.Bucket, cfg KeeperConfig) (*Keeper, error) {
	if err := CheckTTL(cfg.TTL); err != nil {
		return nil, err
	}
	k := &Keeper{
		bucket: b, cfg: cfg, log: cfg.Logger, proof: proof{gap: steadyTime(cfg.TTL)},
		hurry: make(chan struct{}, 1), answers: make(chan answer),
	}
	k.ctx, k.cancel = context.WithCancelCause(context.Background())
	return k, nil
}

// Start takes a lease as soon as possible, unless the keeper was started before.
func (k *Keeper) Start() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.started && k.ctx.Err() == nil {
		k.started = true
		k.wg.Go(k.run) // ends with k.ctx; Close waits
	}
}

// Lease returns the current lease, and takes one if there is none. It waits until ctx ends; the
// error then wraps the context's error, and says what kept the keeper from a lease.
//
// If no lease is available until somebody changes something, as in a full bucket, Lease returns the
// error of a try that was made for this call. [tenant.Permanent] reports such errors.
func (k *Keeper) Lease(ctx context.Context) (*Lease, error) {
	k.Start()
	var before uint64
	for asked := false; ; asked = true {
		k.mu.Lock()
		l, failure, tries, granted := k.current(), k.failure, k.tries, k.granted.Next()
		k.mu.Unlock()
		if !asked {
			before = tries
		}
		switch {
		case k.ctx.Err() != nil:
			return nil, errors.New("lease: the keeper is closed")
		case l != nil:
			return l, nil
		case tries > before && tenant.Permanent(failure):
			return nil, failure
		case !asked && failure != nil:
			k.Check()
		}
		select {
		case <-granted:
		case <-k.ctx.Done():
		case <-ctx.Done():
			err := fmt.Errorf("lease: %w before a lease was granted", ctx.Err())
			if failure := k.Failure(); failure != nil {
				return nil, fmt.Errorf("%w: %w", err, failure)
			}
			return nil, err
		}
	}
}

// Check makes the keeper send the next heartbeat at once. Call it if the lease may be gone, as in a
// bucket that was recreated.
func (k *Keeper) Check() { bell.Ring(k.hurry) }

// Current returns the lease that is held now, or nil.
func (k *Keeper) Current() *Lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current()
}

// current is Current for a caller that holds k.mu.
func (k *Keeper) current() *Lease {
	if k.lease == nil || k.lease.Err() != nil {
		return nil
	}
	return k.lease
}

// Failure returns why the last try to take a lease failed; nil if it did not fail.
func (k *Keeper) Failure() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failure
}

// Started reports whether the keeper was ever asked for a lease.
func (k *Keeper) Started() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.started
}

// Missed returns how many heartbeats failed or were not answered soon, so far.
func (k *Keeper) Missed() uint64 { return k.missed.Load() }

// RoundTrip returns how long the last acknowledged heartbeat took; 0 before the first.
func (k *Keeper) RoundTrip() time.Duration { return time.Duration(k.roundTrip.Load()) }

// Renewed returns when the last acknowledged heartbeat was begun, or the zero time.
func (k *Keeper) Renewed() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lease == nil {
		return time.Time{}
	}
	return *k.lease.begun.Load()
}

// Steady reports whether the heartbeats prove that no outage kept a living process from renewing
// its lease of late. A keeper without a lease proves nothing.
func (k *Keeper) Steady() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current() != nil && k.reconnects == k.bucket.Conn().Stats().Reconnects &&
		k.proof.holds(time.Now(), holdTime(k.cfg.TTL))
}

// prove takes an acknowledged write. After a reconnect the proof begins again: the server may have
// been restarted, and another process's connection may take longer to come back. The caller holds
// k.mu.
func (k *Keeper) prove(begun time.Time) {
	if n := k.bucket.Conn().Stats().Reconnects; k.reconnects != n {
		k.reconnects = n
		k.proof.lose()
	}
	k.proof.add(begun, time.Now())
}

// Close ends the heartbeats and the lease. With revoke it also removes the lease's key, so that
// nothing has to wait for its TTL. The error says that the key was not removed.
func (k *Keeper) Close(ctx context.Context, revoke bool) error {
	k.mu.Lock() // Start begins nothing from now on
	k.cancel(errRevoked)
	k.mu.Unlock()
	k.wg.Wait()
	l := k.lease
	if l == nil || !revoke || !errors.Is(l.Err(), errRevoked) {
		return nil
	}
	if err := k.revoke(ctx, l.ID, l.rev); err != nil {
		return fmt.Errorf("lease: not revoked, it ends within %s: %w", k.cfg.TTL, err)
	}
	return nil
}

// revoke purges a lease's key at its revision, or at that of a heartbeat that was under way.
func (k *Keeper) revoke(ctx context.Context, id string, rev uint64) error {
	key := tenant.LeaseKey(id)
	for {
		_, err := k.bucket.Write(ctx, tenant.Write{Key: key, Op: tenant.Purge, If: tenant.At(rev)})
		if !errors.Is(err, tenant.ErrConflict) {
			return err
		}
		last, err := k.bucket.Last(ctx, key)
		if err != nil || last.Op != tenant.Put || last.Revision <= rev {
			return err // somebody ended it
		}
		rev = last.Revision
	}
}

// run grants and keeps one lease after the other.
func (k *Keeper) run() {
	up, stop := k.bucket.Reconnected()
	defer stop()
	if k.cfg.Begin != nil {
		k.cfg.Begin()
	}
	k.moved = time.Now()
	failures, told := 0, false // told: the log says that no lease is available
	for k.ctx.Err() == nil {
		l, err := k.grant(up)
		if err == nil {
			failures, told = 0, false
			k.cfg.Granted()
			if err := k.keep(l, up); err != nil {
				l.end(err)
				k.log.Warn("kvregistry: lease lost, taking a new one", "lease", l.ID, "cause", err)
				k.cfg.Lost(err)
			}
			continue
		}
		k.move(err)
		k.mu.Lock()
		k.failure = err
		k.tries++
		k.mu.Unlock()
		if tenant.Permanent(err) {
			k.granted.Send() // the callers that wait hear of it
			if !told {
				told = true
				k.log.Warn("kvregistry: no lease can be had, trying again", "cause", err)
			}
		}
		wait := retryCurve(k.cfg.TTL).After(failures)
		failures++
		if errors.Is(err, tenant.ErrPermission) {
			wait = backoff.Jitter(tenant.RefusedTime)
		}
		k.rest(wait, up)
	}
}

// rest waits for d, or until the connection comes back or somebody asks for a try.
func (k *Keeper) rest(d time.Duration, up <-chan nats.Status) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-k.ctx.Done():
	case <-up:
	case <-k.hurry:
	case <-t.C:
	}
}

// grant takes a new lease. A try that is not answered soon is followed by another one, under
// another id, and so is one whose answer was lost with its connection. An answer counts even if it
// is late. The leases of the other tries run out: nothing names them.
func (k *Keeper) grant(up <-chan nats.Status) (*Lease, error) {
	ctx, cancel := context.WithTimeout(k.ctx, tryTime(k.cfg.TTL))
	defer cancel()
	if err := k.bucket.AwaitConnected(ctx); err != nil {
		return nil, err
	}
	for len(up) > 0 { // this try is made on the connection as it is now
		<-up
	}
	l := k.newLease(cryptorand.Text())
	if k.cfg.Keyed {
		l.ID, l.key = newKeyed()
	}
	k.send(l)
	for {
		select {
		case <-ctx.Done():
			return nil, errUnanswered
		case <-up:
			return nil, errUnanswered
		case a := <-k.answers:
			if a.err == nil && a.lease.Err() == nil && time.Since(a.began) < k.cfg.TTL {
				k.accept(a)
				return a.lease, nil
			}
			a.lease.end(errUnanswered)
			if a.lease == l {
				return nil, cmp.Or(a.err, errUnanswered)
			}
		}
	}
}

func (k *Keeper) newLease(id string) *Lease {
	l := &Lease{ID: id, ttl: k.cfg.TTL}
	l.ctx, l.end = context.WithCancelCause(k.ctx)
	return l
}

// accept makes the lease of an answer the current one.
func (k *Keeper) accept(a answer) {
	l := a.lease
	l.first, l.rev, l.asked = a.rev, a.rev, time.Time{}
	l.begun.Store(&a.began)
	k.roundTrip.Store(int64(time.Since(a.began)))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lease, k.failure = l, nil
	k.prove(a.began)
	k.granted.Send()
}
