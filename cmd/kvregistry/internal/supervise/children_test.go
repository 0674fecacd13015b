//go:build linux

package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
)

// orphans leaves children without a parent, and then has an exit code of its own.
const orphans = "i=0; while [ $i -lt 20 ]; do (sh -c 'sleep 0.1' &); i=$((i+1)); done; " +
	"trap 'exit 6' TERM; echo left; while :; do sleep 0.1; done"

// adopting is the environment of a subreaper that is a wrapper.
var adopting = []string{"THEN=adopting wrapper"}

// A subreaper that waits for all children takes no program's end away from Run. Seen to fail with a
// Run by os/exec alone.
func TestRunInASubreaper(t *testing.T) {
	t.Parallel()
	p := began(t, "subreaper", []string{"THEN=runs"})
	if code := p.code(); code != 0 {
		t.Errorf("%d of the ends are wrong:\n%s", code, p.out.String())
	}
}

// A subreaper leaves no zombie, and keeps its program's exit code. Seen to fail without loop.
func TestSubreaper(t *testing.T) {
	t.Parallel()
	p := began(t, "subreaper", adopting, "/bin/sh", "-c", orphans)
	p.says("left")
	pid := p.number("wrapper ")
	one := func() error { return noZombies(pid) }
	natstest.Eventually(t, natstest.Soon, one)
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 6 {
		t.Errorf("exit code %d:\n%s", code, p.out.String())
	}
}

// noZombies returns an error if a process has children other than one that lives.
func noZombies(parent int) error {
	out, err := exec.Command("ps", "-o", "pid=,stat=,args=", "--ppid", fmt.Sprint(parent)).Output()
	if err != nil {
		return err
	}
	if list := strings.Split(strings.TrimSpace(string(out)), "\n"); len(list) != 1 {
		return fmt.Errorf("children: %q", list)
	}
	return nil
}

// Process 1 of a namespace is the parent of all that is left there. Seen to fail without
// parentOfAll.
func TestProcess1(t *testing.T) {
	t.Parallel()
	namespace := []string{"--pid", "--fork", "--mount-proc", "--kill-child"}
	if exec.Command("unshare", append(namespace, "true")...).Run() != nil {
		t.Skip("no PID namespace can be made here")
	}
	const clean = "until [ $(ps -e -o pid= | wc -l) -le 5 ]; do sleep 0.1; done; echo clean"
	p := &process{t: t, cmd: exec.Command("unshare", append(namespace, os.Args[0], "/bin/sh", "-c",
		strings.Replace(orphans, "echo left", clean, 1))...)}
	p.cmd.Env = append(os.Environ(), role+"=wrapper")
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.begin()
	if pid := p.number("wrapper "); pid != 1 {
		t.Fatalf("process %d", pid)
	}
	p.says("clean") // the wrapper, the shell, its copy, ps and wc are left
}
