//go:build linux

package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// A program's exit code is that of its wrapper, also if a signal ended the program. Seen to fail
// with the exit status alone.
func TestExitCode(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]int{
		"exit 0": 0, "exit 7": 7, "kill -KILL $$": 137, "kill -TERM $$": 143,
	} {
		p := began(t, "wrapper", nil, "/bin/sh", "-c", script)
		if code := p.code(); code != want {
			t.Errorf("%s: %d, want %d:\n%s", script, code, want, p.out.String())
		}
	}
}

// The program gets each signal that its wrapper gets. Seen to fail without SIGWINCH in passed.
func TestPassesSignals(t *testing.T) {
	t.Parallel()
	p := began(t, "wrapper", nil, os.Args[0])
	p.says("program ")
	p.says("wrapper ")
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT, syscall.SIGTERM} {
		p.signal(sig)
		p.says("program got " + sig.String())
	}
	if code := p.code(); code != 3 {
		t.Errorf("exit code %d", code)
	}
}

// A signal that is ignored stays ignored, for the program too. Seen to fail with Notify for every
// signal.
func TestIgnoredSignal(t *testing.T) {
	t.Parallel()
	p := &process{t: t, cmd: exec.Command("/bin/sh", "-c", "trap '' HUP; exec \"$0\" "+
		"/bin/sh -c 'kill -HUP $$; echo lives'", os.Args[0])}
	p.cmd.Env = append(os.Environ(), role+"=wrapper")
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.begin()
	p.says("lives")
}

// The program ends with its wrapper, even if that is killed, and not before. Seen to fail without
// dieWithParent, and, because threads of the wrapper end, without LockOSThread.
func TestKilledWrapper(t *testing.T) {
	t.Parallel()
	for range 3 {
		p := began(t, "subreaper", adopting, os.Args[0])
		pid := p.number("program ")
		p.says("wrapper ")
		p.signal(syscall.SIGUSR1)
		p.says("program got user defined signal 1")
		_ = p.cmd.Process.Kill()
		gone(t, pid)
	}
}

// Stop asks the program and then the rest of its group, and kills them when its time is over. Seen
// to fail without askOthers, and without each kill.
func TestStop(t *testing.T) {
	t.Parallel()
	const stubborn = "trap '' TERM; echo pid $$; while :; do sleep 0.1; done"
	for name, tc := range map[string]struct {
		script, grace string
		code          int
	}{
		"a shell that leaves a program": {os.Args[0] + " & echo pid $!; wait", "60", 143},
		"a program that does not end":   {stubborn, "1", 137},
		"a rest that does not end":      {"(" + stubborn + ") & sleep 60", "1", 143},
		"a program that forked": {"trap 'exit 4' TERM; (sleep 60 & echo pid $!) & " +
			"while :; do sleep 0.1; done", "60", 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := began(t, "wrapper", []string{"GRACE=" + tc.grace}, "/bin/sh", "-c", tc.script)
			pid := p.number("pid ")
			p.says("wrapper ")
			p.signal(syscall.SIGTERM)
			if code := p.code(); code != tc.code {
				t.Errorf("exit code %d, want %d:\n%s", code, tc.code, p.out.String())
			}
			gone(t, pid)
		})
	}
}

// What a program leaves in its group ends after it. Seen to fail with a Stop that waits for the
// program alone.
func TestRestOfAProgramThatEnded(t *testing.T) {
	t.Parallel()
	p := began(t, "wrapper", nil, "/bin/sh", "-c", "sleep 60 & echo pid $!; exit 5")
	if code := p.code(); code != 5 {
		t.Errorf("exit code %d", code)
	}
	gone(t, p.number("pid "))
}

// Run gives the program's end, and kills it with its group when the context ends. Seen to fail with
// a kill of the program alone.
func TestRun(t *testing.T) {
	t.Parallel()
	if err := Run(t.Context(), exec.Command("true")); err != nil {
		t.Error(err)
	}
	if err := Run(t.Context(), exec.Command("sh", "-c", "exit 9")); err == nil ||
		!strings.Contains(err.Error(), "exit code 9") {
		t.Error(err)
	}
	if err := Run(t.Context(), exec.Command("/no/such")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var out natstest.Log
	cmd := exec.Command("sh", "-c", "sleep 60 & echo $!; wait")
	cmd.Stdout = &out
	done := make(chan error)
	go func() { done <- Run(ctx, cmd) }()
	pid := 0
	natstest.Eventually(t, natstest.Soon, func() error {
		_, err := fmt.Sscan(out.String(), &pid)
		return err
	})
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(natstest.Soon):
		t.Fatal("Run does not end with its context")
	}
	gone(t, pid)
}
