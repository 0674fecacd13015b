//go:build unix && !linux

package supervise

import "syscall"

func adopts() bool { return parentOfAll() }

func dieWithParent(*syscall.SysProcAttr) {}
