package supervise

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Child is a program that runs. Any number of goroutines may call its methods.
type Child struct {
	cmd   *exec.Cmd
	group int           // the process group of its own, 0 if it is in this process's
	done  chan struct{} // closed when the program has ended
	code  int           // read after done
}

// Start starts a program, which cmd describes and was not started yet. Nothing else may use cmd
// from then on.
//
// The program is in a process group of its own, unless this process is a job that a shell has put
// in the foreground of a terminal: the program then shares its group, reads from the terminal, and
// gets the signals of its keys from there. If this process leads the terminal's session, as in a
// container with a terminal, the program's group is the foreground.
//
// On Linux the kernel kills the program when this process dies, unless the program is setuid.
func Start(cmd *exec.Cmd) (*Child, error) { return start(cmd, atTerminal) }

// Run runs a program until it ends, or kills it and its process group when ctx ends. The error is
// ctx's, or names the exit code if that is not 0.
func Run(ctx context.Context, cmd *exec.Cmd) error {
	c, err := start(cmd, apart)
	if err != nil {
		return err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
	}
	c.kill()
	<-c.done
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case c.code != 0:
		return fmt.Errorf("exit code %d", c.code)
	}
	return nil
}

// A place gives a program its process group. free is called when the program was started.
type place func(*syscall.SysProcAttr) (own bool, free func())

// start starts a program at a place.
func start(cmd *exec.Cmd, at place) (*Child, error) {
	c := &Child{cmd: cmd, done: make(chan struct{})}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	own, free := at(cmd.SysProcAttr)
	dieWithParent(cmd.SysProcAttr)
	started := make(chan error)
	go func() { // ends with the program
		// For the kernel the parent is a thread: it has to live for as long as the program.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		wait, err := children.start(cmd)
		free()
		if err == nil && own {
			c.group = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			c.code = wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// Done closes when the program has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Code is the exit code of a program that has ended: its own, or 128 and the number of the signal
// that ended it.
func (c *Child) Code() int {
	<-c.done
	return c.code
}

// Signal sends a signal to the program, and to no other process of its group: the program says what
// the signal means to those. It does nothing if the program has ended.
func (c *Child) Signal(sig os.Signal) { _ = c.cmd.Process.Signal(sig) }

// HasIt reports whether the program gets a signal that this process got from somewhere else: it is
// in this process's group, and the signal is one that a terminal sends to a whole group.
func (c *Child) HasIt(sig os.Signal) bool { return c.group == 0 && ofTerminal(sig) }

// pause is the time between two looks at a process group.
const pause = 20 * time.Millisecond

// Stop ends the program, and returns when it has ended. It sends sig, unless that is nil, and kills
// the program when ctx ends. What is left then of the program's process group is asked to end by
// SIGTERM, and killed when ctx ends. A process that has left the group goes on.
func (c *Child) Stop(ctx context.Context, sig os.Signal) {
	if sig != nil {
		c.Signal(sig)
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		c.kill()
		<-c.done
	}
	for asked := false; c.others(); asked = true {
		if !asked {
			c.askOthers()
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			c.kill()
			return
		}
	}
}
