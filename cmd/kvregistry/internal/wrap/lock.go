package wrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/cmd/kvregistry/internal/supervise"
	"github.com/kvregistry/go/kvregistry"
)

const aboutLock = `kvregistry lock runs a program while it holds a name, which one process of the
tenant holds at a time. It waits in line for the name, runs the program, and releases the name when
the program has ended.

If the name is lost, because NATS was not reached for most of --ttl, the program gets SIGTERM, and
is killed after --grace. It may have run beside another holder for as long: to be safe from that,
have what it writes to refuse a token below the highest that it has seen. The token is in
KVREGISTRY_TOKEN, and grows from holder to holder.

Signals are passed on to the program. The exit code is the program's, or 128 and the number of the
signal that ended it, 3 if another process holds the name for longer than --wait, and 1 if the name
was lost.`

// Lock is "kvregistry lock".
func Lock(std cli.Streams) *cobra.Command {
	var l locking
	var try bool
	c := &cobra.Command{
		Use: "lock <name> [option]... -- <program> [argument]...", DisableFlagsInUseLine: true,
		Short: "run a program while it holds a name", Long: aboutLock,
		Example: "  kvregistry lock backup --try -- /usr/local/bin/backup --all",
		Args:    cli.Args("name", "program", "[argument]..."),
		RunE: func(c *cobra.Command, args []string) error {
			if c.ArgsLenAtDash() != 1 {
				return cli.Usagef("write the program after the name and --")
			}
			l.bounded = try || c.Flags().Changed("wait")
			if try {
				l.wait = 0
			}
			return l.run(c.Context(), std, args[0], args[1:])
		},
	}
	fs := c.Flags()
	fs.DurationVar(&l.wait, "wait", 0, "the longest `time` to wait for the name (default for ever)")
	fs.BoolVar(&try, "try", false, "do not wait, as --wait 0s")
	fs.DurationVar(&l.grace, "grace", 10*time.Second, "the longest `time` from the loss of the "+
		"name until the program is killed")
	l.flags(fs)
	return c
}

// locking is one run of a program under a name.
type locking struct {
	target
	wait, grace time.Duration
	bounded     bool // wait bounds the wait
	signals     <-chan os.Signal
}

func (l *locking) run(ctx context.Context, std cli.Streams, name string, args []string) error {
	if l.wait < 0 || l.grace < 0 {
		return cli.Usagef("--wait and --grace must not be negative")
	}
	signals, stop := supervise.Signals()
	defer stop()
	l.signals = signals
	if err := l.connect(std, "lock", slog.LevelWarn); err != nil {
		return err
	}
	defer l.conn.Close()
	hold, done, err := l.acquire(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	child, err := begin(std, args, environ("KVREGISTRY_TOKEN="+
		strconv.FormatUint(hold.Token(), 10)))
	if err != nil {
		return err
	}
	return l.follow(child, hold)
}

// follow returns when the program has ended. It ends the program if the hold is lost.
func (l *locking) follow(child *supervise.Child, hold *kvregistry.Hold) error {
	for {
		select {
		case <-child.Done():
			l.stop(child, nil)
			return exit(child.Code())
		case <-hold.Done():
			l.stop(child, syscall.SIGTERM)
			if code := child.Code(); code != 0 {
				return exit(code)
			}
			return fmt.Errorf("the name was lost while the program ran: %w", hold.Err())
		case sig := <-l.signals:
			if !child.HasIt(sig) {
				child.Signal(sig)
			}
		}
	}
}

// stop ends the program and its process group within the grace time.
func (l *locking) stop(child *supervise.Child, sig os.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), l.grace)
	defer cancel()
	child.Stop(ctx, sig)
}

// answerTime is how long the server may take to say how the line for a name stands.
const answerTime = 5 * time.Second

// acquire waits for a name. done releases it.
func (l *locking) acquire(ctx context.Context, name string) (hold *kvregistry.Hold, done func(),
	err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	gaveUp := make(chan struct{})
	go func() { // ends with ctx
		defer close(gaveUp)
		l.giveUp(ctx, cancel)
	}()
	reg, hold, err := l.hold(ctx, cancel, name)
	cancel(nil)
	<-gaveUp        // it takes no signal any more
	done = func() { // both log what they could not do
		if hold != nil {
			_ = hold.Close()
		}
		if reg != nil {
			_ = reg.Close()
		}
	}
	if why := context.Cause(ctx); !errors.Is(why, context.Canceled) {
		err = why
	}
	if err != nil {
		done()
	}
	return hold, done, err
}

// hold waits for a name until ctx ends, and ends ctx if the wait takes too long.
func (l *locking) hold(ctx context.Context, cancel context.CancelCauseFunc, name string) (
	reg *kvregistry.Registry, _ *kvregistry.Hold, err error) {
	opened := make(chan *kvregistry.Registry, 1)
	if l.bounded {
		go l.watch(ctx, cancel, opened, name) // ends with ctx
	}
	if reg, err = l.await(ctx); err != nil {
		return nil, nil, err
	}
	opened <- reg
	hold, err := reg.Exclusive(ctx, name)
	return reg, hold, err
}

// giveUp ends a wait at a signal that asks for it.
func (l *locking) giveUp(ctx context.Context, cancel context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-l.signals:
			if n, ok := sig.(syscall.Signal); ok && (stops(sig) || sig == syscall.SIGHUP) {
				cancel(cli.Exit(128 + int(n)))
				return
			}
		}
	}
}

// watch ends a wait if others stand before this process for too long, or if the server does not
// say so in time.
func (l *locking) watch(ctx context.Context, cancel context.CancelCauseFunc,
	opened <-chan *kvregistry.Registry, name string) {
	start, most := time.Now(), max(l.wait, answerTime)
	var reg *kvregistry.Registry
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case reg = <-opened:
		case <-tick.C:
		}
		waited, n := time.Since(start), ahead(reg, name)
		switch {
		case n > 0 && waited > l.wait:
			cancel(cli.Nonef("another process holds %s, %d in line before this one", name, n))
		case n == 0 && waited > most:
			cancel(fmt.Errorf("NATS did not say within %s who holds %s", most, name))
		}
	}
}

// ahead is how many stand before this process in the line for a name. It is 0 if that is not known,
// or if the registry is not open yet.
func ahead(reg *kvregistry.Registry, name string) int {
	if reg == nil {
		return 0
	}
	for _, h := range reg.Health().Holds {
		if h.Name == name {
			return h.Ahead
		}
	}
	return 0
}
