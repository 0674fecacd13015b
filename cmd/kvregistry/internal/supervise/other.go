//go:build !unix

package supervise

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// Signals gives the interrupts of this process from now on. They have no other effect until stop is
// called.
func Signals() (c <-chan os.Signal, stop func()) {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, os.Interrupt)
	return signals, func() { signal.Stop(signals) }
}

// The console sends an interrupt to each of its processes.
func ofTerminal(sig os.Signal) bool { return sig == os.Interrupt }

func apart(*syscall.SysProcAttr) (own bool, free func()) { return false, func() {} }

func atTerminal(attr *syscall.SysProcAttr) (own bool, free func()) { return apart(attr) }

func dieWithParent(*syscall.SysProcAttr) {}

var children table

type table struct{}

func (table) start(cmd *exec.Cmd) (wait func() int, err error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() int {
		_ = cmd.Wait() // the state has what the error says
		return cmd.ProcessState.ExitCode()
	}, nil
}

func (c *Child) kill() { _ = c.cmd.Process.Kill() }

func (c *Child) others() bool { return false }

func (c *Child) askOthers() {}
