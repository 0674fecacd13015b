package integration

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// endWithParent has the kernel kill the process when this one ends, be the process frozen.
func endWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// launch starts processes from one thread that stays: for the kernel, the parent is the thread.
func launch(cmd *exec.Cmd) error {
	launcher.Do(func() {
		go func() { // lives as long as this process
			runtime.LockOSThread()
			for cmd := range launches {
				launched <- cmd.Start()
			}
		}()
	})
	launching.Lock()
	defer launching.Unlock()
	launches <- cmd
	return <-launched
}

var (
	launcher  sync.Once
	launching sync.Mutex
	launches  = make(chan *exec.Cmd)
	launched  = make(chan error)
)
