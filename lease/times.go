package lease

import (
	"time"

	"github.com/kvregistry/go/internal/backoff"
)

// The times of a lease with a TTL. TestTimesFit holds what they must be to each other: a process
// that lives renews its lease, or takes a new one, before a reaper that proved progress purges what
// it left.

// beatTime is the time between two heartbeats.
func beatTime(ttl time.Duration) time.Duration { return ttl / 3 }

// answerTime is how long one heartbeat waits for its answer before another is sent.
func answerTime(ttl time.Duration) time.Duration { return min(ttl/6, 2*time.Second) }

// tryTime is how long one of the other writes and reads waits for its answer.
func tryTime(ttl time.Duration) time.Duration { return 2 * answerTime(ttl) }

// retryTime is the longest back-off between two tries.
func retryTime(ttl time.Duration) time.Duration { return min(ttl/24, time.Second/2) }

// steadyTime is the longest time between two heartbeats that prove that no outage was in between.
func steadyTime(ttl time.Duration) time.Duration { return ttl * 5 / 12 }

// slotTTL is the TTL of a reaper slot: shorter than a lease's, so that a slot whose holder died is
// free before the leases that ended with it. A TTL is in whole seconds.
func slotTTL(ttl time.Duration) time.Duration {
	return max(time.Second, (ttl / 2).Truncate(time.Second))
}

// echoTime is the time between two renewals of a slot.
func echoTime(ttl time.Duration) time.Duration { return ttl / 8 }

// echoGap is the longest time between two echoes that prove that no outage was in between.
func echoGap(ttl time.Duration) time.Duration { return ttl * 3 / 8 }

// holdTime is how long a reaper leaves the dead alone after an outage, for the living to take new
// leases. nats.go waits 2 s between two attempts to connect.
func holdTime(ttl time.Duration) time.Duration { return max(ttl, 3*time.Second) }

// deafTime is how long a slot's holder waits for an echo before it gives the slot up.
func deafTime(ttl time.Duration) time.Duration { return 4 * holdTime(ttl) }

// graceTime is how long a reaper that has just come leaves the dead alone if its own heartbeats
// prove that there was no outage: the server's clock may have jumped, and the living find out by a
// heartbeat.
func graceTime(ttl time.Duration) time.Duration { return max(ttl/2, 1500*time.Millisecond) }

// standbyTime is the longest time between two looks for a free slot.
func standbyTime(ttl time.Duration) time.Duration { return ttl * 3 / 2 }

// secondLook is how long a process that starts leaves the second slot alone. Its holder reads the
// whole bucket, and begins with a wait of its own that is longer; the process's first look-ups wait
// for nothing else.
const secondLook = 500 * time.Millisecond

// secondDelay is how long the holder of the second slot leaves an ended lease to that of the first.
const secondDelay = 500 * time.Millisecond

// retryCurve is the time between two tries.
func retryCurve(ttl time.Duration) backoff.Curve {
	return backoff.Curve{Least: 25 * time.Millisecond, Most: retryTime(ttl)}
}
