package integration

import (
	"flag"
	"fmt"
	"regexp"
	"testing"
	"time"
)

var (
	chaosDuration = flag.Duration("chaos.duration", inTier(5*time.Second, 20*time.Second),
		"how long each run of Chaos hurts its arena")
	chaosFaults = flag.String("chaos.faults", "",
		"only the faults whose name matches this `regexp`")
	chaosHistory = flag.String("chaos.history", "",
		"the `folder` that a failed run's whole history is written to, one JSON object a line")
	chaosSeed = flag.Uint64("chaos.seed", 1, "what the faults of a run of Chaos follow from")
)

// TestChaos injects faults at random, one or two at once, in an order and for times that the seed
// decides. It checks them like each fault alone. The processes have seeds of their own, and no two
// runs are the same, because of timing.
func TestChaos(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d servers", size), func(t *testing.T) {
			t.Parallel()
			a := newArena(t, size, arenaTTL(size), *chaosSeed)
			a.populate()
			a.settle()
			wanted := regexp.MustCompile(*chaosFaults)
			var done []string
			defer func() {
				if t.Failed() {
					t.Logf("seed %d: %q", *chaosSeed, done)
					a.keep(*chaosHistory, fmt.Sprintf("chaos-%d-%d.jsonl", *chaosSeed, size))
				}
			}()
			for end := chaosEnd(t); time.Now().Before(end) && len(a.broken) == 0; {
				hold := time.Duration(a.rnd.Int64N(int64(3 * a.ttl)))
				fs := []fault{a.pick(func(f fault) bool { return wanted.MatchString(f.name) })}
				// a worker fails at the same time
				if *chaosFaults == "" && a.rnd.IntN(3) == 0 {
					fs = append(fs, a.pick(func(f fault) bool { return f.whom }))
				}
				for _, f := range fs {
					done = append(done, fmt.Sprintf("%s %s", f.name, hold.Round(time.Millisecond)))
				}
				a.inject(hold, fs...)
				if a.rnd.IntN(3) > 0 {
					// changes go on for a while
					time.Sleep(time.Duration(a.rnd.Int64N(int64(a.ttl))))
					a.settle()
				}
			}
			a.end()
		})
	}
}

// chaosEnd returns when chaos has to end, so that the rest of the test fits into go test's
// -timeout.
func chaosEnd(t *testing.T) time.Time {
	const after = 3 * time.Minute // the time for the last fault and for the close
	end := time.Now().Add(*chaosDuration)
	if last, ok := t.Deadline(); ok && last.Add(-after).Before(end) {
		t.Logf("shortened by -timeout; for %s of chaos pass -timeout=%s or more", *chaosDuration,
			*chaosDuration+after)
		return last.Add(-after)
	}
	return end
}

// pick returns a random fault among those that apply and are wanted.
func (a *arena) pick(wanted func(fault) bool) fault {
	for {
		if f := faults[a.rnd.IntN(len(faults))]; (f.servers == 0 ||
			f.servers == len(a.fleet.nodes)) && wanted(f) {
			return f
		}
	}
}
