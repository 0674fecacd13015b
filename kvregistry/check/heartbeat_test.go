package check

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// A heartbeat fails if it was not touched for its time, to within a fifth, and passes when it is
// touched again. Seen to fail with a touch that is found at each look, and with a first touch that
// is not waited for.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var beat Heartbeat
		began := time.Now()
		go func() { // ends with the bubble
			for _, at := range []time.Duration{8, 16, 24, 50} {
				time.Sleep(time.Until(began.Add(at * time.Second)))
				beat.Touch()
			}
		}()
		const s = time.Second
		failed := 0
		for _, r := range looped(t, beat.Within(10*s), 65*s) {
			must := r.at > 36*s && r.at < 50*s || r.at > 62*s
			may := r.at > 34*s && r.at < 51*s || r.at > 60*s
			if r.err == nil && must || r.err != nil && !may {
				t.Errorf("after %s: %v", r.at, r.err)
			}
			if r.err != nil {
				failed++
			}
		}
		if failed < 15 {
			t.Errorf("failed %d times", failed)
		}
	})
}

// A loop that starts again, with a new run of its check, has as long until its first touch as at
// its first start. Seen to fail with a time that goes on from the last touch before.
func TestHeartbeatAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var beat Heartbeat
		for range 3 {
			beat.Touch()
			for _, r := range looped(t, beat.Within(10*time.Second), 9*time.Second) {
				if r.err != nil {
					t.Errorf("after %s: %v", r.at, r.err)
				}
			}
			list := looped(t, beat.Within(10*time.Second), 15*time.Second)
			for _, r := range list {
				if r.err != nil && r.at < 10*time.Second {
					t.Errorf("without a touch, after %s: %v", r.at, r.err)
				}
			}
			if list[len(list)-1].err == nil {
				t.Error("it never fails")
			}
			time.Sleep(time.Minute)
		}
	})
}

// A loop that is stuck makes its service critical, and a loop that goes on makes it passing.
func TestHeartbeatOfAService(t *testing.T) {
	t.Parallel()
	owner := newRegistry(t, natstest.Start(t))
	register(t, owner, "a", kvregistry.Passing)
	var beat Heartbeat
	run(t, owner, beat.Within(50*time.Millisecond))
	shows(t, owner, kvregistry.Critical)
	natstest.Eventually(t, natstest.Soon, func() error {
		beat.Touch()
		if _, err := owner.GetService("web"); err != nil {
			return err
		}
		return nil
	})
	shows(t, owner, kvregistry.Critical)
}

func BenchmarkTouch(b *testing.B) {
	var beat Heartbeat
	b.ReportAllocs()
	for b.Loop() {
		beat.Touch()
	}
}
