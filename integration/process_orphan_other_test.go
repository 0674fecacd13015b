//go:build !linux

package integration

import "os/exec"

// endWithParent makes the kernel kill the process when this one ends, even if the process is
// frozen.
func endWithParent(*exec.Cmd) {}

// launch starts processes from one thread that stays, because the kernel takes the thread for the
// parent.
func launch(cmd *exec.Cmd) error { return cmd.Start() }
