//go:build unix

package supervise

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// passed are the signals that are passed on. The rest is for this process alone, or of its own
// faults.
var passed = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGWINCH, syscall.SIGCONT, syscall.SIGTERM,
}

// Signals gives the signals that this process gets from now on and that are for its program. They
// have no other effect until stop is called. A signal that was ignored before stays ignored, as
// nohup wants it.
func Signals() (c <-chan os.Signal, stop func()) {
	signals := make(chan os.Signal, 64)
	for _, s := range passed {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	return signals, func() { signal.Stop(signals) }
}

// ofTerminal reports whether terminals send a signal, to each process of the foreground group.
func ofTerminal(sig os.Signal) bool {
	return sig == syscall.SIGINT || sig == syscall.SIGQUIT || sig == syscall.SIGWINCH
}

// apart gives a program a process group of its own, without a terminal.
func apart(attr *syscall.SysProcAttr) (own bool, free func()) {
	attr.Setpgid = true
	return true, func() {}
}

// atTerminal gives a program the process group that suits the terminal, if there is one.
func atTerminal(attr *syscall.SysProcAttr) (own bool, free func()) {
	tty, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return apart(attr)
	}
	free = func() { _ = unix.Close(tty) }
	session, err := unix.Getsid(0)
	front, ttyErr := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	switch {
	case err != nil || ttyErr != nil || front != unix.Getpgrp():
		attr.Setpgid = true
	case session == os.Getpid():
		attr.Foreground, attr.Ctty = true, tty
	default: // a pipeline, and the shell that stops and continues a job, know one group
		return false, free
	}
	return true, free
}
