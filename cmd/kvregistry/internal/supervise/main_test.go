//go:build linux

package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kvregistry/go/internal/natstest"
)

// role is set in the environment of a process that is to be something else than the tests.
const role = "SUPERVISE_TEST_ROLE"

// TestMain runs the tests, or what a test asks for.
func TestMain(m *testing.M) {
	switch as := os.Getenv(role); as {
	case "":
		natstest.Parallel(8)
		os.Exit(m.Run())
	case "program":
		program()
	case "subreaper": // a mark that an exec keeps
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			panic(err)
		}
		_ = os.Setenv(role, os.Getenv("THEN"))
		panic(syscall.Exec(os.Args[0], os.Args, os.Environ()))
	case "shell":
		os.Exit(shell())
	case "runs":
		os.Exit(runs())
	default:
		os.Exit(wrapper(as))
	}
}

// wrapper runs its arguments as a Child, and passes signals on. A SIGTERM stops the child, within
// the seconds in GRACE.
func wrapper(as string) int {
	signals, stop := Signals()
	defer stop()
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Env = append(os.Environ(), role+"=program")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	child, err := Start(cmd)
	if err != nil {
		panic(err)
	}
	if as == "adopting wrapper" { // some of its threads end, as they do in any program
		for range 200 {
			go runtime.LockOSThread()
		}
	}
	fmt.Println("wrapper", os.Getpid())
	for {
		select {
		case <-child.Done():
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			child.Stop(ctx, nil)
			cancel()
			return child.Code()
		case sig := <-signals:
			fmt.Println("wrapper got", sig)
			switch seconds, _ := strconv.Atoi(os.Getenv("GRACE")); {
			case child.HasIt(sig):
			case sig == syscall.SIGTERM && seconds > 0:
				ctx, cancel := context.WithTimeout(context.Background(),
					time.Duration(seconds)*time.Second)
				child.Stop(ctx, sig)
				cancel()
				return child.Code()
			default:
				child.Signal(sig)
			}
		}
	}
}

// runs runs short programs beside one that goes on, and returns how many had another end than their
// own.
func runs() (wrong int) {
	if _, err := Start(exec.Command("sleep", "60")); err != nil {
		panic(err)
	}
	for n := range 50 {
		err := Run(context.Background(), exec.Command("sh", "-c", fmt.Sprint("exit ", 1+n%9)))
		if want := fmt.Sprint("exit code ", 1+n%9); err == nil || err.Error() != want {
			fmt.Println(err, "in place of", want)
			wrong++
		}
	}
	return wrong
}

// program says its process id, its group and the signals that it gets, and ends with 3 at SIGTERM.
func program() {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, passed...)
	fmt.Println("program", os.Getpid(), unix.Getpgrp())
	for sig := range signals {
		fmt.Println("program got", sig)
		if sig == syscall.SIGTERM {
			os.Exit(3)
		}
	}
}

// shell leads the session of a terminal, and puts a wrapper in the foreground as a shell does, or
// in the background.
func shell() int {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if os.Getenv("FRONT") != "" {
		attr = &syscall.SysProcAttr{Foreground: true, Ctty: 0}
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), role+"=wrapper")
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = os.Stdin, os.Stdout, os.Stderr, attr
	runtime.LockOSThread()
	attr.Pdeathsig = syscall.SIGKILL // nothing outlives the test
	if err := cmd.Run(); cmd.ProcessState == nil {
		panic(err)
	}
	return cmd.ProcessState.ExitCode()
}

// process is a process of a test.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   natstest.Log
	ended chan struct{}
}

// began starts this binary in a role until the test ends.
func began(t *testing.T, as string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], args...)}
	p.cmd.Env = append(append(os.Environ(), role+"="+as), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.begin()
	return p
}

func (p *process) begin() {
	p.t.Helper()
	p.ended = make(chan struct{})
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { // ends with the process
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	p.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
}

// says waits until the output has a line with a text, and returns what follows in it. A terminal
// puts the keys that are typed before it.
func (p *process) says(text string) (rest []string) {
	p.t.Helper()
	natstest.Eventually(p.t, natstest.Soon, func() error {
		for line := range strings.Lines(p.out.String()) {
			if _, after, ok := strings.Cut(line, text); ok {
				rest = strings.Fields(after)
				return nil
			}
		}
		return fmt.Errorf("no %q in:\n%s", text, p.out.String())
	})
	return rest
}

// number waits for a line, and returns the first number that follows in it.
func (p *process) number(text string) int {
	p.t.Helper()
	n, err := strconv.Atoi(p.says(text)[0])
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// code waits until the process has ended, and returns its exit code.
func (p *process) code() int {
	p.t.Helper()
	natstest.Eventually(p.t, natstest.Soon, func() error {
		select {
		case <-p.ended:
			return nil
		default:
			return fmt.Errorf("the process has not ended:\n%s", p.out.String())
		}
	})
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		if s := state(pid); s != "" && s != "Z" {
			return fmt.Errorf("process %d is in state %s", pid, s)
		}
		return nil
	})
}

// state is the state of a process, as /proc names it: R, S, T, Z; empty if there is no process.
func state(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return ""
	}
	_, after, _ := strings.Cut(string(text), ") ")
	return after[:1]
}
