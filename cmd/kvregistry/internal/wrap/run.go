package wrap

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/cmd/kvregistry/internal/supervise"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/check"
	"github.com/kvregistry/go/kvregistry/serve"
)

const aboutRun = `kvregistry run runs a program and registers it as an instance of a service, for as
long as the program runs. The program needs to know nothing of the registry.

The program is registered as soon as it listens, or as soon as each --check passes. The checks then
set its status. If NATS is away the program runs nevertheless, and is registered when NATS is back.

SIGTERM, SIGINT and SIGQUIT stop the program without a failed request: the instance is marked
draining, the program gets the signal after the settle time, and the instance is deregistered when
the program has ended. A second one kills the program at once. Other signals are passed on. The
keys of a terminal, as Ctrl-C, reach the program directly.

The exit code is the program's, or 128 and the number of the signal that ended it, 127 if there is
no such program, 126 if it can't be started, and 1 if it was not ready in time, if the registry
refuses it, or if another process registers the same id. The program then gets SIGTERM at once. It
finds its instance's id in KVREGISTRY_INSTANCE.

It suits a systemd unit with Type=notify and a container's entry point: as process 1 it reaps
zombies.`

// Run is "kvregistry run".
func Run(std cli.Streams) *cobra.Command {
	var r running
	c := &cobra.Command{
		Use: "run --name <service> [option]... -- <program> [argument]...", Long: aboutRun,
		Short: "run a program as an instance of a service", DisableFlagsInUseLine: true,
		Example: "  kvregistry run --name web --port 8083 -- python3 -m http.server 8083",
		Args:    cli.Args("program", "[argument]..."),
		RunE: func(c *cobra.Command, args []string) error {
			return r.run(c.Context(), std, args)
		},
	}
	fs := c.Flags()
	fs.SetInterspersed(false) // what follows the program is the program's
	fs.StringVar(&r.name, "name", "", "`name` of the service")
	r.described.flags(fs)
	r.checking.flags(fs)
	fs.DurationVar(&r.startTimeout, "start-timeout", time.Minute, "the longest `time` from the "+
		"program's start until it listens or its checks pass")
	fs.DurationVar(&r.settle, "settle", kvregistry.DefaultSettle, "the `time` for which a "+
		"draining instance is still served, for callers that looked it up before")
	fs.DurationVar(&r.grace, "grace", serve.DefaultGrace, "the longest `time` that a stop may "+
		"take in all; then the program is killed")
	r.target.flags(fs)
	return c
}

// running is one run of a program.
type running struct {
	target
	described
	checking
	name                        string
	startTimeout, settle, grace time.Duration

	self    kvregistry.Service
	checks  []check.Check
	ready   []check.Check // pass when the program is ready to be called
	manager *systemd
	signals <-chan os.Signal
	child   *supervise.Child

	registering chan error // gets the result of register, once
	registered  bool       // that result was nil, and no other process took the instance over
	// Set by register, for readers that have its result.
	reg    *kvregistry.Registry
	runner *check.Runner // nil if there are no checks
}

// prepare reads the options.
func (r *running) prepare() (err error) {
	if r.self, err = r.instance(r.name); err != nil {
		return err
	}
	if r.checks, err = r.checking.checks(); err != nil {
		return err
	}
	if r.ready = r.checks; len(r.ready) == 0 {
		at, err := listens(r.self)
		if err != nil {
			return err
		}
		r.ready = []check.Check{check.TCP(at)}
	}
	if r.settle < 0 || r.settle >= r.grace {
		return cli.Usagef("--settle %s must be shorter than --grace %s", r.settle, r.grace)
	}
	r.manager, err = newSystemd()
	return err
}

// run runs the program, and returns when it has ended and is not registered any more.
func (r *running) run(ctx context.Context, std cli.Streams, args []string) (err error) {
	if err := r.prepare(); err != nil {
		return err
	}
	signals, stop := supervise.Signals()
	defer stop()
	r.signals = signals
	if err := r.connect(std, "run", slog.LevelInfo); err != nil {
		return err
	}
	defer r.conn.Close()
	if r.reg, err = r.open(ctx); err != nil {
		return err
	}
	defer r.close()
	r.child, err = begin(std, args, environ("KVREGISTRY_INSTANCE="+r.self.ID))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.registering = make(chan error, 1)
	go func() { r.registering <- r.register(ctx) }() // ends with ctx; finish waits
	sig, failed := r.follow()
	r.finish(cancel, sig)
	if failed != nil {
		return failed
	}
	return exit(r.child.Code())
}

// close closes the registry, which deregisters what is left.
func (r *running) close() {
	if r.runner != nil {
		r.runner.Stop()
	}
	if r.reg != nil {
		_ = r.reg.Close() // it logs what it could not do
	}
}

const (
	retryTime = 100 * time.Millisecond // between two looks whether the program is ready
	tellTime  = 3 * time.Second        // after which the log tells what is waited for
)

// awaitReady waits until the program is ready to be called.
func (r *running) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.startTimeout)
	defer cancel()
	told := time.After(tellTime)
	for _, c := range r.ready {
		var why error // of the last run that was not cut short
		for err := c.Once(ctx); err != nil; err = c.Once(ctx) {
			if why == nil || ctx.Err() == nil {
				why = err
			}
			select {
			case <-time.After(retryTime):
			case <-told:
				r.log.Warn("kvregistry run: the program is not ready, so it is not registered yet",
					"cause", why)
			case <-ctx.Done():
				return fmt.Errorf("the program was not ready within %s: %w", r.startTimeout, why)
			}
		}
	}
	return nil
}

// register registers the instance when the program is ready, and has its checks run. It returns
// when the server has acknowledged that, however long NATS is away.
func (r *running) register(ctx context.Context) (err error) {
	if err := r.awaitReady(ctx); err != nil {
		return err
	}
	if r.reg == nil {
		if r.reg, err = r.await(ctx); err != nil {
			return err
		}
	}
	if len(r.checks) > 0 {
		r.runner, err = check.RunInstance(r.reg, r.self.Name, r.self.ID, r.checks...)
		if err != nil {
			return err
		}
	}
	_, err = r.reg.RegisterContext(ctx, r.self)
	return err
}
