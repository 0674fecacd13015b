// Package supervise runs a program in place of the user's shell, systemd or a container's runtime.
//
// [Start] starts a program as a [Child], and [Signals] gives the signals that this process gets and
// passes on to it. [Child.Stop] ends the program with all processes of its process group. [Run]
// runs a short one, for example a health check.
//
// Process 1 and a subreaper are the parents of all processes whose own parent has ended. Start then
// also waits for those, so that none stays as a zombie. In such a process no child may be started
// but by this package: os/exec's Wait would find its child gone.
//
// The package knows nothing of the registry.
package supervise
