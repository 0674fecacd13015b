package wrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/cmd/kvregistry/internal/supervise"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/check"
)

// checking is what the options say of the checks of an instance.
type checking struct {
	list            []string
	every, patience time.Duration
}

func (k *checking) flags(fs *pflag.FlagSet) {
	fs.StringArrayVar(&k.list, "check", nil, "`check` that sets the status: http://… or "+
		"https://…, tcp:host:port, or exec:command, which a shell runs; may be repeated")
	fs.DurationVar(&k.every, "check-interval", check.DefaultEvery, "`time` from one check to the "+
		"next")
	fs.DurationVar(&k.patience, "check-timeout", check.DefaultTimeout, "`time` that a check may "+
		"take")
}

// checks are the checks that were asked for.
func (k *checking) checks() (list []check.Check, err error) {
	for _, text := range k.list {
		kind, rest, _ := strings.Cut(text, ":")
		opts := []check.Option{check.Named(kind), check.Every(k.every), check.Timeout(k.patience)}
		switch kind {
		case "http", "https":
			list = append(list, check.HTTP(text, opts...))
		case "tcp":
			list = append(list, check.TCP(strings.TrimPrefix(rest, "//"), opts...))
		case "exec":
			list = append(list, check.Of(func(ctx context.Context) error {
				return command(ctx, rest)
			}, opts...))
		case "grpc":
			return nil, cli.Usagef("there is no check grpc: have a program ask, as in " +
				"--check 'exec:grpc_health_probe -addr=localhost:9000'")
		default:
			return nil, cli.Usagef("--check %q is of no kind that there is: begin it with http:, "+
				"https:, tcp: or exec:", text)
		}
	}
	for option, d := range map[string]time.Duration{"interval": k.every, "timeout": k.patience} {
		if d < time.Millisecond {
			return nil, cli.Usagef("--check-%s %s is too short; use 1ms or more", option, d)
		}
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range list { // none is run
		if err := c.Once(over); errors.Is(err, kvregistry.ErrInvalidOption) {
			return nil, cli.Usage(errors.New("--check: write it as http://host:port/path, " +
				"tcp:host:port or exec:command"))
		}
	}
	return list, nil
}

// tail keeps the last bytes that were written to it.
type tail struct{ kept []byte }

// said is how many bytes of a command's last output are in its error.
const said = 200

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	t.kept = t.kept[max(0, len(t.kept)-said):]
	return len(p), nil
}

// command runs a command line by a shell, and returns an error unless its exit code is 0.
func command(ctx context.Context, line string) error {
	var out tail
	cmd := exec.Command("sh", "-c", line)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ(), &out, &out
	cmd.WaitDelay = time.Second // for a process that has left the group with the output
	err := supervise.Run(ctx, cmd)
	if text := bytes.TrimSpace(out.kept); err != nil && len(text) > 0 {
		return fmt.Errorf("%w: %q", err, text)
	}
	return err
}
