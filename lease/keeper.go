package lease

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/tenant"
)

// The bounds of a lease's TTL, and what it is where nothing is said. A TTL is in whole seconds.
const (
	MinTTL     = 2 * time.Second
	MaxTTL     = 24 * time.Hour
	DefaultTTL = 15 * time.Second
)

// Errors of this package.
var (
	ErrInvalidTTL = errors.New("invalid TTL")
	// ErrLost is why a lease ended before its owner revoked it.
	ErrLost = errors.New("lease lost")
	// ErrRevoked is why a lease ended that its owner gave back.
	ErrRevoked = errors.New("lease revoked")
	// ErrClosed says that the keeper was closed.
	ErrClosed = errors.New("lease keeper is closed")
)

// CheckTTL returns an error that wraps [ErrInvalidTTL] unless a lease may have this TTL.
func CheckTTL(ttl time.Duration) error {
	if ttl < MinTTL || ttl > MaxTTL || ttl%time.Second != 0 {
		return fmt.Errorf("lease: %w: %s; use whole seconds from %s to %s", ErrInvalidTTL, ttl, MinTTL, MaxTTL)
	}
	return nil
}

// Lease is one grant, from its first write to its end.
type Lease struct {
	ID string

	key   ed25519.PrivateKey // signs the heartbeats of a keyed lease; nil for another
	ttl   time.Duration
	first uint64                    // revision of the write that granted it
	begun atomic.Pointer[time.Time] // when the last acknowledged heartbeat was begun
	rev   uint64                    // of that one; the keeper's goroutine's own, as is
	asked time.Time                 // when the first heartbeat after it was begun; zero if none was
	done  chan struct{}
	err   error // why it ended; set before done is closed
}

// Revision is the bucket's revision of the write that granted the lease.
func (l *Lease) Revision() uint64 { return l.first }

// Done closes when the lease is over, and so is what lived by it.
func (l *Lease) Done() <-chan struct{} { return l.done }

// Err is nil while the lease lives, and then wraps [ErrLost] or [ErrRevoked].
func (l *Lease) Err() error {
	select {
	case <-l.done:
		return l.err
	default:
		return nil
	}
}

// Until is until when, by this process's clock, the server keeps the lease for certain, as far as is known by now: each acknowledged heartbeat moves it on. The
// server counts the TTL from when a heartbeat arrives, so it is counted here from when that was begun, less an eighth: for clocks that run unevenly, and for
// what has to be ended in time.
func (l *Lease) Until() time.Time { return l.begun.Load().Add(l.ttl - l.ttl/8) }

// KeeperConfig says how a keeper's leases are. TTL is needed.
type KeeperConfig struct {
	TTL   time.Duration
	Value []byte // what stands in the lease's key, for people to read
	Keyed bool   // nobody else can renew a lease; Value is a JSON object with members then
	// Granted and Lost are called in the keeper's goroutine, in order, with each lease; they must not block.
	Granted func(*Lease)
	Lost    func(*Lease, error)
	Logger  *slog.Logger
}

// Keeper holds one lease at a time. Its methods may be called by any number of goroutines.
type Keeper struct {
	bucket *tenant.Bucket
	cfg    KeeperConfig
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	hurry  chan struct{} // the next try need not wait; holds one

	moved  time.Time    // when another server was last tried, or the keeper began; the keeper's goroutine's own, as is
	moves  int          // how many were tried since the last acknowledged heartbeat
	grants chan attempt // what became of tries to take a lease, late ones too

	mu      sync.Mutex // guards what follows
	started bool
	current *Lease         // nil while there is none
	granted bell.Broadcast // current was set, or none can be had
	failure error          // why the last grant failed
	tries   uint64         // grants that failed so far
	renewed time.Time      // when the last acknowledged write was begun
	proof   proof          // by the acknowledged writes on one connection
	lives   uint64         // the connection's number of reconnects then
}

// NewKeeper makes a keeper. It takes a lease when it is first asked for one; [Keeper.Close] ends it. The
// error wraps [ErrInvalidTTL].
func NewKeeper(b *tenant.Bucket, cfg KeeperConfig) (*Keeper, error) {
	if err := CheckTTL(cfg.TTL); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Granted == nil {
		cfg.Granted = func(*Lease) {}
	}
	if cfg.Lost == nil {
		cfg.Lost = func(*Lease, error) {}
	}
	k := &Keeper{
		bucket: b, cfg: cfg, hurry: make(chan struct{}, 1),
		proof: proof{gap: steadyTime(cfg.TTL)}, grants: make(chan attempt, 1),
	}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	return k, nil
}

// Start takes a lease as soon as it can be had, if the keeper does not hold one.
func (k *Keeper) Start() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.start()
}

// start is Start for who holds k.mu.
func (k *Keeper) start() {
	if !k.started && k.ctx.Err() == nil {
		k.started = true
		k.wg.Go(k.run) // ends with k.ctx; Close waits
	}
}

// Lease returns the current lease, and takes one where there is none yet. It waits as long as ctx lets it;
// the error wraps ctx's and says what kept the keeper from a lease, or wraps [ErrClosed].
//
// Where a lease can't be had until somebody changes something, as where the bucket is full, the error of a try made for this
// call says so.
func (k *Keeper) Lease(ctx context.Context) (*Lease, error) {
	var before uint64
	for asked := false; ; asked = true {
		k.mu.Lock()
		if k.ctx.Err() != nil {
			k.mu.Unlock()
			return nil, fmt.Errorf("lease: %w", ErrClosed)
		}
		k.start()
		l, granted, failure, tries := k.current, k.granted.Next(), k.failure, k.tries
		k.mu.Unlock()
		if !asked {
			before = tries
		}
		switch {
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
			k.mu.Lock()
			defer k.mu.Unlock()
			if k.failure != nil {
				return nil, fmt.Errorf("lease: %w before a lease was granted: %w", ctx.Err(), k.failure)
			}
			return nil, fmt.Errorf("lease: %w before a lease was granted", ctx.Err())
		}
	}
}

// Check makes the keeper send the next heartbeat at once. Call it if the lease may be gone, as in a
// bucket that was recreated.
func (k *Keeper) Check() { bell.Ring(k.hurry) }

// Current is the lease that is held now, or nil.
func (k *Keeper) Current() *Lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current
}

// Failure is why the last try to take a lease failed; nil while one is held.
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

// Steady reports whether the heartbeats prove that no outage kept a living process from renewing
// its lease of late. A keeper without a lease proves nothing.
func (k *Keeper) Steady() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current != nil && k.lives == k.bucket.Conn().Stats().Reconnects &&
		k.proof.holds(time.Now(), holdTime(k.cfg.TTL))
}

// prove takes an acknowledged write. After a reconnect the proof begins again: the server may have
// been restarted, and another process's connection may take longer to come back. The caller holds
// k.mu.
func (k *Keeper) prove(begun time.Time) {
	if lives := k.bucket.Conn().Stats().Reconnects; k.lives != lives {
		k.lives = lives
		k.proof.lose()
	}
	k.proof.add(begun, time.Now())
}

// Renewed is when the last acknowledged heartbeat was begun, or zero.
func (k *Keeper) Renewed() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.renewed
}

// Close ends the heartbeats. With revoke it also ends the lease at once, so that nothing has to wait for
// its TTL; an error then says that the lease will end by its TTL. Otherwise the lease is left to run out.
func (k *Keeper) Close(ctx context.Context, revoke bool) error {
	k.mu.Lock()
	k.cancel()
	k.mu.Unlock()
	k.wg.Wait()
	l := k.Current()
	if l == nil {
		return nil
	}
	k.end(l, ErrRevoked)
	if !revoke {
		return nil
	}
	if err := k.revoke(ctx, l.ID, l.rev); err != nil {
		return fmt.Errorf("lease: not revoked, it ends within %s: %w", k.cfg.TTL, err)
	}
	return nil
}

// revoke ends a lease at its revision, or at that of a heartbeat that was under way as this one was closed.
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
	k.moved = time.Now()
	told := false // that none can be had
	for failures := 0; k.ctx.Err() == nil; {
		l, err := k.grant(up)
		if err != nil {
			k.move(err)
			k.mu.Lock()
			k.failure = err
			k.tries++
			if tenant.Permanent(err) { // whoever waits shall hear of it
				k.granted.Send()
			}
			k.mu.Unlock()
			if tenant.Permanent(err) && !told {
				told = true
				k.cfg.Logger.Warn("kvregistry: no lease can be had, trying again", "cause", err)
			}
			wait := retryCurve(k.cfg.TTL).After(failures)
			failures++
			if errors.Is(err, tenant.ErrPermission) {
				wait = backoff.Jitter(tenant.RefusedTime)
			}
			k.rest(wait, up)
			continue
		}
		failures, told = 0, false
		k.cfg.Granted(l)
		if err := k.keep(l); err != nil {
			k.end(l, err)
			k.cfg.Logger.Warn("kvregistry: lease lost, taking a new one", "lease", l.ID, "cause", err)
			k.cfg.Lost(l, err)
		}
	}
}

// rest waits for the next try: for d, or until the connection comes back or somebody asks for it.
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

// attempt is what became of one try to take a lease.
type attempt struct {
	lease *Lease
	err   error
}

// grant takes a new lease. A try that is not answered soon is followed by another one, under
// another id, and its answer counts all the same when it comes. So is one after which the
// connection came back: its answer is lost. The leases of the other tries are left to run out:
// nothing names them.
func (k *Keeper) grant(up <-chan nats.Status) (*Lease, error) {
	ctx, cancel := context.WithTimeout(k.ctx, tryTime(k.cfg.TTL))
	defer cancel()
	if err := k.bucket.AwaitConnected(ctx); err != nil {
		return nil, err
	}
	for len(up) > 0 { // this try is made on the connection as it is now
		<-up
	}
	l := &Lease{ID: cryptorand.Text(), ttl: k.cfg.TTL, done: make(chan struct{})}
	if k.cfg.Keyed {
		l.ID, l.key = newKeyed()
	}
	began := time.Now()
	l.begun.Store(&began)
	k.wg.Go(func() { // ends within two TTLs, or with k.ctx
		var err error
		l.rev, err = k.renew(k.ctx, l, 0, k.cfg.TTL)
		select {
		case k.grants <- attempt{l, err}:
		case <-k.ctx.Done():
		case <-time.After(k.cfg.TTL):
		}
	})
	for {
		select {
		case <-ctx.Done():
			return nil, errUnanswered
		case <-up:
			return nil, errUnanswered
		case g := <-k.grants:
			if g.err == nil && time.Since(*g.lease.begun.Load()) < k.cfg.TTL {
				g.lease.first = g.lease.rev
				k.granting(g.lease)
				return g.lease, nil
			} else if g.lease == l {
				return nil, cmp.Or(g.err, errUnanswered)
			}
		}
	}
}

// granting makes a lease the current one.
func (k *Keeper) granting(l *Lease) {
	begun := *l.begun.Load()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current, k.failure, k.renewed = l, nil, begun
	k.prove(begun)
	k.granted.Send()
}

// end marks a lease as over.
func (k *Keeper) end(l *Lease, why error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = nil
	l.err = why
	close(l.done)
}

// renew does one heartbeat: a write that succeeds only on top of the lease's own last one.
func (k *Keeper) renew(ctx context.Context, l *Lease, on uint64, limit time.Duration) (uint64, error) {
	return k.bucket.WriteWithin(ctx, limit, tenant.Write{
		Key: tenant.LeaseKey(l.ID), Value: k.value(l, on), TTL: k.cfg.TTL, If: tenant.At(on),
	})
}

// padded is a value with spaces behind it that make up for the digits of the revision that its
// message names: a full bucket takes what is no longer than what it replaces.
func padded(value []byte, on uint64) []byte {
	const digits = 20 // of the largest revision
	return append(slices.Clone(value), bytes.Repeat([]byte(" "), digits-len(strconv.FormatUint(on, 10)))...)
}

// answer is what became of one heartbeat.
type answer struct {
	began time.Time
	on    uint64 // the revision that it was to go on top of
	rev   uint64
	err   error
}

// mostWaiting is how many heartbeats may be under way.
const mostWaiting = 8

// keep renews a lease until it is lost, and says how; or until the keeper is closed, and returns nil.
//
// A heartbeat that is not answered soon is sent again, and its answer counts all the same when it comes: on
// a connection that is busy an answer may take long, and the server has renewed the lease meanwhile.
//
// A lease is lost when the server says that another write is on its key (it ran out, or was sealed), and
// when heartbeats went without an acknowledgement for a whole TTL: then it has run out.
func (k *Keeper) keep(l *Lease) error {
	up, stop := k.bucket.Reconnected()
	defer stop()
	answers := make(chan answer)
	var senders sync.WaitGroup
	ctx, cancel := context.WithCancel(k.ctx)
	defer senders.Wait()
	defer cancel()
	waiting := 0 // heartbeats without an answer
	failures := 0
	timer := time.NewTimer(max(0, k.interval()-time.Since(*l.begun.Load())))
	defer timer.Stop()
	for {
		select {
		case <-k.ctx.Done():
			return nil
		case a := <-answers:
			waiting--
			next, err := k.judge(l, a, waiting > 0)
			switch {
			case errors.Is(err, ErrLost):
				return err
			case err == nil:
				failures = 0
			default:
				next = retryCurve(k.cfg.TTL).After(failures)
				failures++
				if errors.Is(err, tenant.ErrPermission) {
					next = min(k.interval(), tenant.RefusedTime)
				}
			}
			timer.Reset(next)
			continue
		case <-up:
		case <-k.hurry:
		case <-timer.C:
		}
		if waiting > 0 {
			if err := k.fault(l, errUnanswered); errors.Is(err, ErrLost) {
				return err
			}
			if waiting >= mostWaiting || !k.bucket.Conn().IsConnected() { // one that waits is sent when it is
				timer.Reset(answerTime(k.cfg.TTL))
				continue
			}
		}
		waiting++
		on, began := l.rev, time.Now()
		if l.asked.IsZero() {
			l.asked = began
		}
		senders.Go(func() { // ends within a TTL, or with ctx
			rev, err := k.renew(ctx, l, on, k.cfg.TTL)
			select {
			case answers <- answer{began, on, rev, err}:
			case <-ctx.Done():
			}
		})
		timer.Reset(answerTime(k.cfg.TTL))
	}
}

// judge takes the answer to a heartbeat, and returns the time until the next one. With others it is
// not the only one under way. The error wraps ErrLost if the lease is lost.
func (k *Keeper) judge(l *Lease, a answer, others bool) (next time.Duration, err error) {
	switch {
	case a.err == nil:
		l.rev = max(l.rev, a.rev)
		k.acknowledged(l, a.began)
		return max(0, k.interval()-time.Since(a.began)), nil
	case errors.Is(a.err, tenant.ErrConflict) && a.on < l.rev: // an earlier one was acknowledged since
		return max(0, k.interval()-time.Since(k.Renewed())), nil
	case errors.Is(a.err, tenant.ErrConflict):
		if others || l.asked.Before(a.began) { // one of them may be what stands there
			rev, err := k.adopt(l)
			if err == nil { // it may be most of a TTL old: the next one is due
				l.rev, l.asked = rev, time.Time{}
				return 0, nil
			}
			if !errors.Is(err, tenant.ErrConflict) {
				return 0, err
			}
		}
		return 0, fmt.Errorf("%w: its key ran out or was sealed: %w", ErrLost, a.err)
	}
	return 0, k.fault(l, a.err)
}

var errUnanswered = fmt.Errorf("no answer to a heartbeat: %w", context.DeadlineExceeded)

// fault takes a heartbeat that was not acknowledged, and passes on why. The error wraps ErrLost if
// the lease has run out.
func (k *Keeper) fault(l *Lease, why error) error {
	if !l.asked.IsZero() && time.Since(l.asked) > k.cfg.TTL {
		return fmt.Errorf("%w: not renewed for a TTL: %w", ErrLost, why)
	}
	if k.bucket.Revive(k.ctx, answerTime(k.cfg.TTL)) {
		k.cfg.Logger.Warn("kvregistry: the connection did not answer, connecting again", "cause", why)
	} else {
		k.move(why)
	}
	return why
}

// move connects to another server if no heartbeat was acknowledged for so long that the lease is in
// danger: this one may be cut off from its cluster.
func (k *Keeper) move(why error) {
	last := k.moved
	if renewed := k.Renewed(); renewed.After(last) {
		last, k.moves = renewed, 0
	}
	if time.Since(last) < k.tooLate() || tenant.Permanent(why) || !k.bucket.Move(k.moves) {
		return
	}
	k.moved = time.Now()
	k.moves++
	k.cfg.Logger.Warn("kvregistry: no heartbeat is acknowledged, trying another server", "cause", why)
}

// adopt finds out what became of a heartbeat whose answer was lost. Only the owner puts a value on
// a lease's key, so a later one there is that heartbeat. If the old one is there, it may be under
// way.
func (k *Keeper) adopt(l *Lease) (uint64, error) {
	ctx, cancel := context.WithTimeout(k.ctx, tryTime(k.cfg.TTL))
	defer cancel()
	e, found, err := k.bucket.Get(ctx, tenant.LeaseKey(l.ID))
	switch {
	case err != nil:
		return 0, err
	case !found:
		return 0, tenant.ErrConflict
	case e.Revision <= l.rev:
		return 0, errors.New("lease: the heartbeat is not there yet")
	}
	return e.Revision, nil
}

// acknowledged notes a heartbeat that was begun at the given time.
func (k *Keeper) acknowledged(l *Lease, began time.Time) {
	if began.After(*l.begun.Load()) {
		l.begun.Store(&began)
	}
	l.asked = time.Time{}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.prove(began)
	if began.After(k.renewed) {
		k.renewed = began
	}
}

// interval is the time to the next heartbeat, with jitter downwards, so that processes that started
// together do not stay together.
func (k *Keeper) interval() time.Duration {
	beat := beatTime(k.cfg.TTL)
	return beat - rand.N(beat/10)
}

// tooLate is the time without an acknowledged heartbeat after which the lease is in danger.
func (k *Keeper) tooLate() time.Duration { return k.cfg.TTL * 2 / 3 }
