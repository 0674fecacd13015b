package browse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/kvregistry"
)

const aboutWait = `kvregistry wait waits until a service has as many instances that pass as it is
asked for, and prints them. It also waits for the server and for the tenant. The exit code is 3 if
time runs out and there are too few.`

// waiting is what "wait" is asked.
type waiting struct {
	cli.Target
	cli.Output
	filters
	n int
}

// Wait is "kvregistry wait".
func Wait(std cli.Streams) *cobra.Command {
	var w waiting
	c := &cobra.Command{
		Use: "wait service", Short: "wait until instances of a service pass",
		Long: aboutWait,
		Example: "  kvregistry wait database && ./migrate\n" +
			"  kvregistry wait web -n 3 --timeout 30s",
		Args: cli.Args("service"),
		RunE: func(c *cobra.Command, args []string) error {
			return w.run(c.Context(), std, args[0])
		},
	}
	c.Flags().IntVarP(&w.n, "number", "n", 1, "how `many` instances to wait for")
	w.narrow(c)
	w.Output.Flags(c)
	w.FlagsWithin(c.Flags(), time.Minute, "the longest `time` to wait")
	c.ValidArgsFunction = completeName(&w.Target)
	return c
}

func (w *waiting) run(ctx context.Context, std cli.Streams, name string) error {
	if w.n < 1 {
		return cli.Usagef("--number %d is invalid: wait for 1 or more", w.n)
	}
	if w.statuses == nil {
		w.statuses = []string{string(kvregistry.Passing)}
	}
	narrow, err := w.list()
	if err != nil {
		return err
	}
	ctx, stop := cli.UntilSignal(ctx)
	defer stop()
	ctx, cancel := w.Bounded(ctx)
	defer cancel()
	if std.Watched() {
		_, _ = fmt.Fprintf(std.Err, "waiting for %d of %s\n", w.n, cli.Escape(name))
	}
	s, err := w.await(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.WaitFor(ctx, name, w.n, narrow...); errors.Is(err, kvregistry.ErrNotFound) {
		return cli.Nonef("%w", err)
	} else if err != nil {
		return wrongName(err)
	}
	list, err := find(ctx, s.Registry, name, narrow)
	if err != nil {
		return err
	}
	return cli.Print(std, &w.Output, instances, list)
}

// await opens the tenant as soon as the server and the tenant are there.
func (w *waiting) await(ctx context.Context) (*cli.Session, error) {
	for {
		s, err := w.Open(ctx, "wait")
		if err == nil || !errors.Is(err, nats.ErrNoServers) && !cli.IsNone(err) {
			return s, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(250 * time.Millisecond):
		}
	}
}
