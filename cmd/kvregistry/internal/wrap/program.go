package wrap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/cmd/kvregistry/internal/supervise"
)

// The exit codes of a program that can't be started, as a shell has them.
const (
	exitCannot = 126
	exitNone   = 127
)

// begin starts a program with this process's own input and output.
func begin(std cli.Streams, args []string, env []string) (*supervise.Child, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	child, err := supervise.Start(cmd)
	if err == nil {
		return child, nil
	}
	code := cli.Exit(exitCannot)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = exitNone
	}
	var lookup *exec.Error
	if errors.As(err, &lookup) {
		err = lookup.Err // the name may be a secret that was typed in a wrong place
	}
	_, _ = fmt.Fprintf(std.Err, "can't start the program: %v\n", cli.Cause(err))
	return nil, code
}

// exit is the error that ends this process with a program's exit code.
func exit(code int) error {
	if code == 0 {
		return nil
	}
	return cli.Exit(code)
}
