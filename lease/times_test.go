package lease

import (
	"errors"
	"testing"
	"time"
)

// A process that lives renews its lease in time after the longest outage that a proof does not
// notice, and takes a new one within half a TTL after a longer one. Seen to fail with answers that
// are waited for half a TTL.
func TestTimesFit(t *testing.T) {
	for ttl := MinTTL; ttl <= MaxTTL; ttl += max(time.Second, ttl/10).Truncate(time.Second) {
		try := answerTime(ttl) + retryTime(ttl)
		if left := ttl - beatTime(ttl) - echoGap(ttl); left < try {
			t.Errorf("%s: %s are left after an outage that no echo tells of, a heartbeat takes %s", ttl, left, try)
		}
		if left := ttl - beatTime(ttl) - steadyTime(ttl); left < answerTime(ttl) {
			t.Errorf("%s: %s are left after an outage that no heartbeat tells of", ttl, left)
		}
		if beatTime(ttl) >= steadyTime(ttl) || 2*echoTime(ttl) >= echoGap(ttl) {
			t.Errorf("%s: one that is a little late is an outage", ttl)
		}
		if next := 2*answerTime(ttl) + retryTime(ttl); next > ttl/2 {
			t.Errorf("%s: a new lease takes %s after an outage", ttl, next)
		}
		if echoTime(ttl)*2 > slotTTL(ttl) {
			t.Errorf("%s: a slot has %s, and is renewed every %s", ttl, slotTTL(ttl), echoTime(ttl))
		}
		if ttl > 3*time.Second && 9*ViewHeartbeat(ttl)/4 > ttl/2 {
			t.Errorf("%s: a silent loss is noticed after %s", ttl, 9*ViewHeartbeat(ttl)/4)
		}
	}
}

func TestCheckTTL(t *testing.T) {
	for ttl, ok := range map[time.Duration]bool{
		0: false, time.Second: false, 2 * time.Second: true, 2500 * time.Millisecond: false,
		24 * time.Hour: true, 24*time.Hour + time.Second: false,
	} {
		if err := CheckTTL(ttl); (err == nil) != ok || err != nil && !errors.Is(err, errInvalidTTL) {
			t.Errorf("%s: %v", ttl, err)
		}
	}
}
