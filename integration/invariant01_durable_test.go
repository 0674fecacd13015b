package integration

import (
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// Invariant 1, durable: a registration that Register acknowledged survives a restart of the server,
// for the rest of its lease. The lease survives too. Seen to fail with the bucket in memory.
func TestAcknowledgedRegistrationSurvivesARestart(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	p := start(t, plan{URL: s.URL(), TTL: time.Minute, Services: []kvService{web("a")}})
	leases := keys(t, s.Connect(), "default", "lease.")
	p.freeze() // a frozen owner can't write again, so that only stored keys are found
	s.Outage(100 * time.Millisecond)
	observer := open(t, s)
	if got := ids(t, observer, "web"); len(got) != 1 {
		t.Fatalf("after the restart the service has %v", got)
	}
	p.thaw()
	natstest.Eventually(t, natstest.Soon, func() error { return p.connected(s) })
	if now := keys(t, s.Connect(), "default", "lease."); len(now) != 1 || now[0] != leases[0] {
		t.Errorf("the lease was %v and is %v: a restart shorter than the TTL must not end it",
			leases, now)
	}
}
