package integration

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

var (
	quorumTimes = flag.Int("quorum.times", 1,
		"how many times LostQuorum loses the quorum; if more than once, for up to 20 s, "+
			"and with a TTL of 15 s too")
	quorumBusy = flag.Int("quorum.busy", 0, "how many `processes` keep a core busy meanwhile")
	quorumSeed = flag.Uint64("quorum.seed", 1, "what the outages of LostQuorum follow from")
)

// Invariants 2 and 5: no live instance expires after a cluster lost its quorum for any time, in
// tenants with different TTLs. A leader answers state requests before it commits writes again, and
// an election takes longer than a short TTL. Seen to fail with an echo that is the answer to a
// state request.
func TestLostQuorum(t *testing.T) {
	if *quorumTimes == 1 {
		natstest.Long(t)
	}
	t.Parallel()
	f := newFleet(t, 3)
	ttls := []time.Duration{2 * time.Second, 5 * time.Second}
	if *quorumTimes > 1 {
		ttls = append(ttls, 15*time.Second)
	}
	var all []*household
	for _, ttl := range ttls {
		all = append(all, newHousehold(t, f, ttl))
	}
	for range *quorumBusy {
		busy := exec.Command("sh", "-c", "while :; do :; done")
		must(t, busy.Start())
		t.Cleanup(func() { _ = busy.Process.Kill(); _ = busy.Wait() })
	}
	rnd := rand.New(rand.NewPCG(*quorumSeed, 0))
	for n := range *quorumTimes {
		outage := 6 * time.Second
		if *quorumTimes > 1 {
			outage = 500*time.Millisecond + time.Duration(rnd.Int64N(int64(20*time.Second)))
		}
		first := rnd.IntN(3)
		two := []*node{f.nodes[first], f.nodes[(first+1)%3]}
		for _, n := range two {
			n.kill()
		}
		time.Sleep(outage) // the fault lasts so long
		for _, n := range two {
			n.start()
		}
		for _, n := range two {
			n.proc.await("ready", 60*time.Second)
		}
		began := time.Now()
		for _, h := range all {
			h.recovers(t)
		}
		took := time.Since(began)
		// within this time reapers purge what they take for dead
		time.Sleep(max(3*time.Second, ttls[len(ttls)-1]) + time.Second)
		for _, h := range all {
			h.recovers(t)
			if expired := h.expired.Load(); expired > 0 {
				t.Fatalf("outage %d of %s, TTL %s: %d living instances expired", n, outage, h.ttl,
					expired)
			}
		}
		t.Logf("outage %d of %s: all was right %s after the servers' return", n,
			outage.Round(time.Millisecond), took.Round(time.Millisecond))
	}
}

// household is a tenant whose processes all live. Each has registered an instance, observes and may
// reap.
type household struct {
	ttl     time.Duration
	members []*kvregistry.Registry
	expired atomic.Int64
}

// recovers waits until every member is healthy and sees all members.
func (h *household) recovers(t *testing.T) {
	t.Helper()
	natstest.Eventually(t, 2*time.Minute, func() error {
		for _, r := range h.members {
			if health := r.Health(); !health.OK() {
				return fmt.Errorf("TTL %s: %+v", h.ttl, health)
			}
			if n := len(ids(t, r, "web")); n != len(h.members) {
				return fmt.Errorf("TTL %s: %d instances are seen", h.ttl, n)
			}
		}
		return nil
	})
}

func newHousehold(t *testing.T, f *fleet, ttl time.Duration) *household {
	t.Helper()
	h := &household{ttl: ttl}
	gone := func(e kvregistry.Event) {
		if e.Kind == kvregistry.Expired || e.Kind == kvregistry.Unregistered {
			h.expired.Add(1)
		}
	}
	for i := range 4 {
		r := openOn(t, f.connect(), kvregistry.Tenant(fmt.Sprintf("ttl-%d", ttl/time.Second)),
			kvregistry.TTL(ttl),
			kvregistry.OnEvent(gone))
		register(t, r, web(fmt.Sprintf("m%d", i)))
		must(t, r.Observe("web"))
		h.members = append(h.members, r)
	}
	h.recovers(t)
	time.Sleep(max(3*time.Second, ttl)) // wait until its reapers may purge
	return h
}
