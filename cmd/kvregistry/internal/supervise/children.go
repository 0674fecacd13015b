//go:build unix

package supervise

import (
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// children are the programs that this process runs.
var children table

// table says which children are this process's own, if it is the parent of others too.
type table struct {
	mu      sync.Mutex // guards what follows; held while a program is started
	own     map[int]chan syscall.WaitStatus
	waiting bool // loop runs
}

// start starts a program. wait waits until it has ended, once, and returns its exit code.
func (t *table) start(cmd *exec.Cmd) (wait func() int, err error) {
	if !adopts() {
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return func() int {
			_ = cmd.Wait() // the state has what the error says
			return codeOf(cmd.ProcessState.Sys().(syscall.WaitStatus))
		}, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if t.own == nil {
		t.own = map[int]chan syscall.WaitStatus{}
	}
	ended := make(chan syscall.WaitStatus, 1)
	t.own[cmd.Process.Pid] = ended
	if !t.waiting {
		t.waiting = true
		go t.loop()
	}
	return func() int {
		status := <-ended
		_ = cmd.Wait() // for the copying of its output alone
		return codeOf(status)
	}, nil
}

// loop waits for all children of this process, its own and those that it has adopted. It ends when
// there is none left.
func (t *table) loop() {
	for t.next() {
	}
}

// next waits for one child.
func (t *table) next() bool {
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, 0, nil)
	t.mu.Lock() // a child that is being started is in the table after this
	defer t.mu.Unlock()
	if ended, ok := t.own[pid]; ok && err == nil {
		delete(t.own, pid)
		ended <- status
	}
	t.waiting = err != syscall.ECHILD || len(t.own) > 0
	return t.waiting
}

func codeOf(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// kill kills the program, and all processes of its group if that is its own.
func (c *Child) kill() {
	if c.group != 0 {
		_ = syscall.Kill(-c.group, syscall.SIGKILL)
		return
	}
	_ = c.cmd.Process.Kill()
}

// others reports whether the group of a program that has ended has other processes.
func (c *Child) others() bool { return c.group != 0 && syscall.Kill(-c.group, 0) == nil }

func (c *Child) askOthers() { _ = syscall.Kill(-c.group, syscall.SIGTERM) }

// parentOfAll reports whether this is the first process of its namespace.
func parentOfAll() bool { return os.Getpid() == 1 }
