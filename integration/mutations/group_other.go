//go:build !unix

package main

import "os/exec"

// group is for systems with process groups. On others the children of a command end by themselves.
func group(cmd *exec.Cmd) (end func() error) {
	return func() error {
		if cmd.Process == nil {
			return nil
		}
		return cmd.Process.Kill()
	}
}
