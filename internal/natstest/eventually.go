package natstest

import (
	"sync/atomic"
	"testing"
	"time"
)

// Soon is the deadline of a condition for which the product promises no time. It is below the TTLs
// that tests set to a minute, so that no test waits for what the end of a lease brings about.
const Soon = 20 * time.Second

// Eventually waits until check returns nil, and returns how long that took. It fails the test with
// the last error after a time in which this process had the processor when it asked for it. The
// time for which the machine let the process wait is added, so that no test depends on how busy the
// machine is.
func Eventually(t testing.TB, within time.Duration, check func() error) time.Duration {
	t.Helper()
	began, behind := time.Now(), late.Load()
	for {
		err := check()
		took := time.Since(began)
		if err == nil {
			return took
		}
		if took > within+time.Duration(late.Load()-behind) {
			t.Fatalf("not within %s (it took %s): %v", within, took.Round(time.Millisecond), err)
		}
		time.Sleep(2 * time.Millisecond) // between two checks
	}
}

// Late returns how long this process has waited for the processor so far. A time that was measured
// by the clock meanwhile is too long by as much.
func Late() time.Duration { return time.Duration(late.Load()) }

// late is how many nanoseconds this process has waited for the processor.
var late atomic.Int64

func init() { go measure() } // ends with the process

// measure measures by how much a goroutine that sleeps is woken late.
func measure() {
	const nap = 10 * time.Millisecond
	for {
		began := time.Now()
		time.Sleep(nap)
		if took := time.Since(began); took > 2*nap {
			late.Add(int64(took - nap))
		}
	}
}
