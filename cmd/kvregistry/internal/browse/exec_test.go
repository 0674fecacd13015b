//go:build linux

package browse

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
)

// sleeps starts a process that outlasts its shell, and prints its number.
const sleeps = "sleep 100 & echo asleep $!; "

// asleep waits for the output of so many commands that begin with sleeps, and returns the numbers.
func (b *background) asleep(t *testing.T, n int) (pids []string) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		pids = strings.Fields(strings.ReplaceAll(b.out.String(), "asleep ", ""))
		if len(pids) < n {
			return fmt.Errorf("%d of %d:\n%s%s", len(pids), n, b.out.String(), b.err.String())
		}
		return nil
	})
	return pids
}

// gone waits until a process has ended.
func gone(t *testing.T, pid string) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		if err == nil && !strings.Contains(string(text), ") Z ") {
			return fmt.Errorf("process %s lives", pid)
		}
		return nil
	})
}

// A process that a command leaves holds up neither the watch nor the next command, and is killed.
// Seen to fail with exec.Cmd's Run.
func TestCommandLeavesAProcess(t *testing.T) {
	t.Parallel()
	_, url := fleet(t)
	b := start(t, url, "watch web --exec", sleeps)
	for _, pid := range b.asleep(t, 2) {
		gone(t, pid)
	}
}

// A watch that ends kills the command that runs, and what that has started. Seen to fail with
// exec.Cmd's Run.
func TestWatchEndsDuringACommand(t *testing.T) {
	t.Parallel()
	_, url := fleet(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := startUntil(ctx, t, url, "watch web --exec", sleeps+"wait")
	pids := b.asleep(t, 1)
	cancel()
	natstest.Eventually(t, natstest.Soon, func() error {
		if len(b.code) == 0 {
			return fmt.Errorf("the watch goes on:\n%s", b.err.String())
		}
		return nil
	})
	if code := <-b.code; code != 0 || len(pids) != 1 {
		t.Errorf("exit code %d, %q:\n%s", code, pids, b.err.String())
	}
	gone(t, pids[0])
}
