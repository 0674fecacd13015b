package lease

import (
	"errors"
	"fmt"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/tenant"
)

// The bounds of a lease's TTL, and its default. A TTL is in whole seconds.
const (
	MinTTL     = 2 * time.Second
	MaxTTL     = 24 * time.Hour
	DefaultTTL = 15 * time.Second
)

var errInvalidTTL = errors.New("invalid TTL")

// CheckTTL returns an error that says what a TTL may be, unless a lease may have this one.
func CheckTTL(ttl time.Duration) error {
	if ttl < MinTTL || ttl > MaxTTL || ttl%time.Second != 0 {
		return fmt.Errorf("lease: %w: %s; use whole seconds from %s to %s",
			errInvalidTTL, ttl, MinTTL, MaxTTL)
	}
	return nil
}

// The times that follow from a TTL. A living process must renew its lease, or take a new one,
// before a reaper with proof purges what the process registered: TestTimesFit holds what that
// takes.

// beatTime is the time between two heartbeats.
func beatTime(ttl time.Duration) time.Duration { return ttl / 3 }

// answerTime is how long one heartbeat waits for its answer before another is sent.
func answerTime(ttl time.Duration) time.Duration { return min(ttl/6, 2*time.Second) }

// tryTime bounds each other write and read, with its answer.
func tryTime(ttl time.Duration) time.Duration { return 2 * answerTime(ttl) }

// retryTime is the longest time between two tries of a heartbeat or of a grant.
func retryTime(ttl time.Duration) time.Duration { return min(ttl/24, time.Second/2) }

// retryCurve is the time between two of these tries.
func retryCurve(ttl time.Duration) backoff.Curve {
	return backoff.Curve{Least: 25 * time.Millisecond, Most: retryTime(ttl)}
}

// dangerTime is the time without an acknowledged heartbeat after which a lease is in danger.
func dangerTime(ttl time.Duration) time.Duration { return ttl * 2 / 3 }

// sureTime is how long after a heartbeat was begun its process is sure that the lease lives.
func sureTime(ttl time.Duration) time.Duration { return ttl - ttl/8 }

// steadyTime is the longest time between two heartbeats that prove that no outage was in between.
func steadyTime(ttl time.Duration) time.Duration { return ttl * 5 / 12 }

// slotTTL is the TTL of a reaper slot, in whole seconds. It is shorter than a lease's, so that the
// slot of a dead holder is free before the leases end that died with it.
func slotTTL(ttl time.Duration) time.Duration {
	return max(time.Second, (ttl / 2).Truncate(time.Second))
}

// echoTime is the time between two renewals of a slot.
func echoTime(ttl time.Duration) time.Duration { return ttl / 8 }

// echoGap is the longest time between two echoes that prove that no outage was in between.
func echoGap(ttl time.Duration) time.Duration { return ttl * 3 / 8 }

// holdTime is how long a reaper leaves the dead alone after an outage, so that the living can take
// new leases. nats.go waits 2 s between two attempts to connect.
func holdTime(ttl time.Duration) time.Duration { return max(ttl, 3*time.Second) }

// graceTime replaces holdTime for a new holder whose own heartbeats prove that there was no outage.
// The server's clock may have jumped, and the living find out by a heartbeat.
func graceTime(ttl time.Duration) time.Duration { return max(ttl/2, 1500*time.Millisecond) }

// deafTime is how long a slot's holder waits for an echo before it gives the slot up.
func deafTime(ttl time.Duration) time.Duration { return 4 * holdTime(ttl) }

// standbyTime is the longest time between two looks for a free slot.
func standbyTime(ttl time.Duration) time.Duration { return ttl * 3 / 2 }

// idleTime is how long an ended lease may hold keys before nobody is said to reap. A process that
// takes over from a crashed reaper has purged the keys by then.
func idleTime(ttl time.Duration) time.Duration { return 2 * holdTime(ttl) }

// ViewHeartbeat is the time between two signs of life of a view's idle consumer, in a bucket whose
// leases have a TTL. A consumer that falls silent is noticed within half a TTL.
func ViewHeartbeat(ttl time.Duration) time.Duration {
	return min(max(ttl/6, time.Second*2/5), 5*time.Second)
}

// The times that are the same for each TTL.
const (
	// secondLook is how long a process that starts leaves the second slot alone. Otherwise it would
	// read the whole bucket while its first look-ups wait.
	secondLook = 500 * time.Millisecond
	// secondDelay is how long the second slot's holder leaves an ended lease to the first one's.
	secondDelay = 500 * time.Millisecond
	// purgeRetry is the time after which a purge is tried again whose effect the stream did not
	// show.
	purgeRetry = time.Second
	// giveTime bounds the removal of a slot's key, which ends by its TTL otherwise.
	giveTime = 500 * time.Millisecond
	// readTime bounds one reading of the bucket.
	readTime = 10 * time.Second
	// readCost spaces the readings of a bucket in which nobody reaps: it is the time for each of
	// the bucket's keys and each of its leases. All processes together read a few thousand keys a
	// second.
	readCost = 500 * time.Microsecond
	// overTime is how long an index remembers that a lease has ended: longer than the bucket does.
	overTime = 3 * tenant.TombstoneTTL
)
