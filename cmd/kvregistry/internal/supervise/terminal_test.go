//go:build linux

package supervise

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kvregistry/go/internal/natstest"
)

// Keys are what a terminal sends signals at.
const ctrlC, ctrlZ = "\x03", "\x1a"

// typist is a terminal with a process that leads its session.
type typist struct {
	*process
	keys *os.File
}

func (y *typist) types(keys string) {
	y.t.Helper()
	if _, err := io.WriteString(y.keys, keys); err != nil {
		y.t.Fatal(err)
	}
}

// atKeys starts this binary in a role as the leader of a terminal's session.
func atKeys(t *testing.T, as string, env ...string) *typist {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminal can be made here: ", err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	screen, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = screen.Close() }()
	y := &typist{&process{t: t, cmd: exec.Command(os.Args[0], os.Args[0])}, keys}
	y.cmd.Env = append(append(os.Environ(), role+"="+as), env...)
	y.cmd.Stdin, y.cmd.Stdout, y.cmd.Stderr = screen, screen, screen
	y.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	y.begin()
	go func() { _, _ = io.Copy(&y.out, keys) }() // ends with the terminal
	return y
}

// count returns how often the program said that it got an interrupt, after everything before was
// passed on to it.
func (y *typist) count(wrapper int) int {
	y.t.Helper()
	if err := syscall.Kill(wrapper, syscall.SIGUSR2); err != nil {
		y.t.Fatal(err)
	}
	y.says("program got user defined signal 2")
	return strings.Count(y.out.String(), "program got interrupt")
}

// Ctrl-C reaches the program of a job in the foreground once, and Ctrl-Z stops the whole job. Seen
// to fail with a HasIt that is always false, and with a group of its own for the program.
func TestForegroundJob(t *testing.T) {
	t.Parallel()
	y := atKeys(t, "shell", "FRONT=yes")
	program, wrapper := y.number("program "), y.number("wrapper ")
	y.types(ctrlC)
	y.says("wrapper got interrupt")
	y.says("program got interrupt")
	if n := y.count(wrapper); n != 1 {
		t.Errorf("the program got %d interrupts", n)
	}
	y.types(ctrlZ)
	for _, pid := range []int{program, wrapper} {
		natstest.Eventually(t, natstest.Soon, func() error {
			if s := state(pid); s != "T" {
				return fmt.Errorf("process %d is in state %s", pid, s)
			}
			return nil
		})
	}
	if err := syscall.Kill(-wrapper, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	y.says("program got continued")
	if err := syscall.Kill(wrapper, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := y.code(); code != 3 {
		t.Errorf("exit code %d", code)
	}
}

// The program of a job in the background gets what its wrapper gets, once. Seen to fail with a
// HasIt of the signal alone.
func TestBackgroundJob(t *testing.T) {
	t.Parallel()
	y := atKeys(t, "shell")
	y.says("program ")
	wrapper := y.number("wrapper ")
	if err := syscall.Kill(wrapper, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	y.says("program got interrupt")
	if n := y.count(wrapper); n != 1 {
		t.Errorf("the program got %d interrupts", n)
	}
}

// In a container with a terminal the wrapper leads the session. Keys go to the program, and signals
// that are sent to the wrapper go there too. Seen to fail with a session's leader that is taken for
// a job.
func TestLeaderOfASession(t *testing.T) {
	t.Parallel()
	y := atKeys(t, "wrapper")
	y.says("program ")
	wrapper := y.number("wrapper ")
	y.types(ctrlC)
	y.says("program got interrupt")
	if n := y.count(wrapper); n != 1 || strings.Contains(y.out.String(), "wrapper got interrupt") {
		t.Errorf("the program got %d interrupts:\n%s", n, y.out.String())
	}
	y.signal(syscall.SIGQUIT)
	y.says("program got quit")
}
