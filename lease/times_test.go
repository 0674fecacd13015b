package lease

import (
	"errors"
	"testing"
	"time"

	"github.com/kvregistry/go/tenant"
)

// The times of a lease fit each other for each TTL. A process renews its lease in time after the
// longest outage that a proof does not notice. After a longer outage it takes a new lease within
// half a TTL. Seen to fail with answers that are waited for half a TTL, and with a slot that is
// renewed once in its TTL.
func TestTimesFit(t *testing.T) {
	t.Parallel()
	for ttl := MinTTL; ttl <= MaxTTL; ttl += max(time.Second, ttl/10).Truncate(time.Second) {
		try := answerTime(ttl) + retryTime(ttl)
		for _, tt := range []struct {
			what        string
			short, long time.Duration // the first is at most the second
		}{
			{"a heartbeat after an outage that no echo shows", try,
				ttl - beatTime(ttl) - echoGap(ttl)},
			{"one after an outage that no heartbeat shows", answerTime(ttl),
				ttl - beatTime(ttl) - steadyTime(ttl)},
			{"a heartbeat that is a little late is no outage", beatTime(ttl) + 1, steadyTime(ttl)},
			{"an echo that is a little late is no outage", 2*echoTime(ttl) + 1, echoGap(ttl)},
			{"a new lease after an outage", tryTime(ttl) + retryTime(ttl), ttl / 2},
			{"a new lease, and a reaper's shortest wait", ttl / 2, graceTime(ttl)},
			{"the shortest wait is none that others have to keep", graceTime(ttl), holdTime(ttl)},
			{"a lost lease's end, and a reaper's wait", ttl, holdTime(ttl)},
			{"the first retry", 25 * time.Millisecond, retryTime(ttl)},
			{"a heartbeat and its answer before the lease is in danger",
				beatTime(ttl) + answerTime(ttl), dangerTime(ttl)},
			{"another server is tried before the lease is over", dangerTime(ttl), sureTime(ttl)},
			{"two renewals of a slot in its TTL", echoTime(ttl) * 2, slotTTL(ttl)},
			{"a slot is free before the leases end", slotTTL(ttl), ttl},
			{"a deaf holder is noticed after its proof's end", holdTime(ttl), deafTime(ttl)},
			{"a purge is tried again before others count it", purgeRetry + secondDelay,
				idleTime(ttl) - holdTime(ttl)},
			{"a stand-by looks before it counts what is idle", standbyTime(ttl), idleTime(ttl)},
			{"the second holder comes before the proof of the first ends", secondDelay,
				holdTime(ttl)},
		} {
			if tt.short > tt.long {
				t.Errorf("TTL %s: %s: %s is longer than %s", ttl, tt.what, tt.short, tt.long)
			}
		}
		if quiet := 9 * ViewHeartbeat(ttl) / 4; ttl > 3*time.Second && quiet > ttl/2 {
			t.Errorf("TTL %s: a silent loss is noticed after %s", ttl, quiet)
		}
	}
	if overTime <= tenant.TombstoneTTL {
		t.Errorf("an end is forgotten after %s, and the bucket has it for %s", overTime,
			tenant.TombstoneTTL)
	}
}

// A TTL is a whole number of seconds within its bounds. Seen to fail with a TTL of 2.5 s that is
// allowed.
func TestCheckTTL(t *testing.T) {
	t.Parallel()
	for ttl, ok := range map[time.Duration]bool{
		0: false, time.Second: false, 2 * time.Second: true, 2500 * time.Millisecond: false,
		24 * time.Hour: true, 24*time.Hour + time.Second: false,
	} {
		if err := CheckTTL(ttl); (err == nil) != ok || err != nil &&
			!errors.Is(err, errInvalidTTL) {
			t.Errorf("%s: %v", ttl, err)
		}
	}
}
