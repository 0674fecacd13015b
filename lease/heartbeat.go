package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/tenant"
)

// answer is what became of one heartbeat. The first one of a lease grants it.
type answer struct {
	lease *Lease
	began time.Time
	on    uint64 // the revision on top of which it was sent
	rev   uint64
	err   error
}

// send sends one heartbeat of a lease, without waiting for the answer.
func (k *Keeper) send(l *Lease) {
	on, began := l.rev, time.Now()
	if l.asked.IsZero() {
		l.asked = began
	}
	k.wg.Go(func() { // ends with the lease, or when its answer was taken; Close waits
		rev, err := k.renew(l, on, k.cfg.TTL)
		select {
		case k.answers <- answer{l, began, on, rev, err}:
		case <-l.ctx.Done():
		}
	})
}

// renew writes a lease's key. The write succeeds only on top of the lease's own last one.
func (k *Keeper) renew(l *Lease, on uint64, limit time.Duration) (uint64, error) {
	return k.bucket.Write(l.ctx, tenant.Write{
		Key: tenant.LeaseKey(l.ID), Value: k.value(l, on), TTL: k.cfg.TTL, If: tenant.At(on),
		Within: limit,
	})
}

// mostWaiting is how many heartbeats of a lease may be under way.
const mostWaiting = 8

// keep renews a lease. It returns why the lease was lost, or nil when the keeper is closed.
//
// A heartbeat that is not answered soon is sent again, and its answer counts even if it is late:
// the server has renewed the lease meanwhile. A lease is lost if the server says that another write
// is on its key, and if no heartbeat was acknowledged for a whole TTL.
func (k *Keeper) keep(l *Lease, up <-chan nats.Status) error {
	waiting, failures := 0, 0 // heartbeats without an answer; failed answers in a row
	timer := time.NewTimer(max(0, k.interval()-time.Since(*l.begun.Load())))
	defer timer.Stop()
	for {
		select {
		case <-k.ctx.Done():
			return nil
		case a := <-k.answers:
			if a.lease != l { // of a grant that was given up
				a.lease.end(errUnanswered)
				continue
			}
			waiting--
			next, err := k.answered(l, a, waiting > 0)
			switch {
			case errors.Is(err, ErrLost):
				return err
			case err == nil:
				failures = 0
			case errors.Is(err, tenant.ErrPermission):
				next = min(k.interval(), tenant.RefusedTime)
			default:
				next = retryCurve(k.cfg.TTL).After(failures)
				failures++
			}
			timer.Reset(next)
			continue
		case <-up:
		case <-k.hurry:
		case <-timer.C:
		}
		if waiting > 0 {
			if err := k.failed(l, errUnanswered); errors.Is(err, ErrLost) {
				return err
			}
		}
		// A heartbeat that waits is sent when the connection is back.
		if waiting == 0 || waiting < mostWaiting && k.bucket.Connected() {
			waiting++
			k.send(l)
		}
		timer.Reset(answerTime(k.cfg.TTL))
	}
}

// answered takes the answer to a heartbeat, and returns the time until the next heartbeat. With
// others, more heartbeats are under way. The error wraps ErrLost if the lease is lost.
func (k *Keeper) answered(l *Lease, a answer, others bool) (next time.Duration, err error) {
	switch {
	case a.err == nil:
		l.rev = max(l.rev, a.rev)
		k.acknowledged(l, a.began)
		return max(0, k.interval()-time.Since(a.began)), nil
	case !errors.Is(a.err, tenant.ErrConflict):
		return 0, k.failed(l, a.err)
	case a.on < l.rev: // an earlier one was acknowledged since
		return max(0, k.interval()-time.Since(*l.begun.Load())), nil
	}
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

// acknowledged notes a heartbeat that was begun at the given time.
func (k *Keeper) acknowledged(l *Lease, began time.Time) {
	if began.After(*l.begun.Load()) {
		l.begun.Store(&began)
	}
	k.roundTrip.Store(int64(time.Since(began)))
	l.asked = time.Time{}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.prove(began)
}

// failed takes a heartbeat that was not acknowledged, and returns why. The error wraps ErrLost if
// the lease has run out.
func (k *Keeper) failed(l *Lease, why error) error {
	k.missed.Add(1)
	if !l.asked.IsZero() && time.Since(l.asked) > k.cfg.TTL {
		return fmt.Errorf("%w: not renewed for a TTL: %w", ErrLost, why)
	}
	if k.bucket.Revive(k.ctx, answerTime(k.cfg.TTL)) {
		k.log.Warn("kvregistry: the connection did not answer, connecting again", "cause", why)
	} else {
		k.move(why)
	}
	return why
}

// move connects to another server if no heartbeat was acknowledged for so long that the lease is in
// danger: this server may be cut off from its cluster.
func (k *Keeper) move(why error) {
	last := k.moved
	if renewed := k.Renewed(); renewed.After(last) {
		last, k.moves = renewed, 0
	}
	danger := time.Since(last) >= dangerTime(k.cfg.TTL)
	if !danger || tenant.Permanent(why) || !k.bucket.Move(k.moves) {
		return
	}
	k.moved = time.Now()
	k.moves++
	k.log.Warn("kvregistry: no heartbeat is acknowledged, trying another server", "cause", why)
}

// adopt finds out what became of a heartbeat whose answer was lost. Only the owner puts a value on
// a lease's key, so a later value there is that heartbeat. If the old value is there, the heartbeat
// may be under way.
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

// interval returns the time to the next heartbeat. Its jitter is downwards, so that processes that
// started together do not stay together.
func (k *Keeper) interval() time.Duration {
	beat := beatTime(k.cfg.TTL)
	return beat - rand.N(beat/10)
}
