package integration

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// ttl is the TTL of most tests: the shortest that is allowed.
const ttl = 2 * time.Second

// TestMain runs the tests or, if the environment says so, a process of another kind.
func TestMain(m *testing.M) {
	for role, run := range map[string]func(plan string) int{
		"SERVICE": serviceProcess, "WORKER": workerProcess, "LOCKER": lockerProcess,
		"SERVER": serverProcess, "CONFIGURED": configuredProcess,
	} {
		if plan := os.Getenv("KVREGISTRY_TEST_" + role); plan != "" {
			os.Exit(run(plan))
		}
	}
	natstest.Parallel(inTier(6, 3))
	if run := flag.Lookup("test.run"); testing.Short() && run.Value.String() == "" {
		_ = run.Value.Set("^(" + strings.Join(short, "|") + ")$")
	}
	natstest.ServersInShort = true
	os.Exit(m.Run())
}

// short lists the tests of -short: one for each invariant of docs/design.md, in its order.
var short = []string{
	"TestAcknowledgedRegistrationSurvivesARestart", "TestKilledProcessIsOut",
	"TestNewestRegistrationWins",
	"TestDeletedConsumerIsMended", "TestUnknownIsNotNotFound", "TestEventsAreTheCachesHistory",
	"TestNothingIsLeftBehind", "TestNoNameReachesAnother", "TestWhateverStandsInTheBucket",
	"TestNoForeignClockIsRead", "TestHeartbeatsReachNoObserver", "TestBusyConnection",
}
