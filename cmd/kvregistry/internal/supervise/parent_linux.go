package supervise

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// adopts reports whether this process is the parent of processes whose own parent has ended.
func adopts() bool {
	var subreaper int32
	err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&subreaper)), 0, 0, 0)
	return parentOfAll() || err == nil && subreaper != 0
}

// dieWithParent has the kernel kill a program when the thread that started it ends.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
