//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// group makes a command begin a process group, with all that it starts. end kills what is left of
// the group.
func group(cmd *exec.Cmd) (end func() error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return func() error {
		if cmd.Process == nil {
			return nil
		}
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}
