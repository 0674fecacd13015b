// Package reaper has the command that removes what dead processes of a tenant left.
package reaper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/cmd/kvregistry/internal/scrape"
	"github.com/kvregistry/go/kvregistry"
)

const about = `kvregistry reaper removes what dead processes of a tenant left. It is for a
tenant whose processes may not reap or should not: those with the role registrar, or made
WithoutReaping. Its user needs the role reaper.

SIGINT and SIGTERM stop it. Run two, on two machines: each takes one of the tenant's two reaper
slots.

With --metrics it observes the whole tenant, and tells Prometheus of it.`

// Command is "kvregistry reaper".
func Command(std cli.Streams) *cobra.Command {
	var r reaping
	c := &cobra.Command{
		Use: "reaper", Short: "remove what dead processes of a tenant left", Long: about,
		Args: cli.Args(),
		RunE: func(c *cobra.Command, _ []string) error { return r.run(c.Context(), std) },
	}
	fs := c.Flags()
	fs.StringVar(&r.tenant, "tenant", kvregistry.DefaultTenant, "`name` of the tenant")
	fs.DurationVar(&r.ttl, "ttl", kvregistry.DefaultTTL, "the TTL that the tenant's processes use")
	r.metrics.Flags(fs)
	r.Flags(fs)
	return c
}

type reaping struct {
	cli.Login
	tenant  string
	ttl     time.Duration
	metrics scrape.Option
}

// run holds one of the tenant's reaper slots until a signal stops it.
func (r *reaping) run(ctx context.Context, std cli.Streams) error {
	ctx, stop := cli.UntilSignal(ctx)
	defer stop()
	log := cli.Logger(true, std.Err)
	nc, err := r.Connect("reaper", cli.Lasting(log)...)
	if err != nil {
		return err
	}
	defer nc.Close()
	reg, err := kvregistry.New(ctx, nc, kvregistry.Tenant(r.tenant),
		kvregistry.TTL(r.ttl), kvregistry.Logger(log))
	if errors.Is(err, kvregistry.ErrInvalidOption) {
		return cli.Usagef("%w", err)
	} else if err != nil {
		return err
	}
	stopMetrics, err := r.metrics.Serve(ctx, reg, std)
	if err != nil {
		return errors.Join(err, reg.Close())
	}
	defer stopMetrics()
	_, _ = fmt.Fprintf(std.Out, "ready: tenant %s\n", r.tenant)
	for said := ""; ctx.Err() == nil; {
		state := "stands by"
		if reg.Health().Reaps {
			state = "reaps: it holds a slot"
		}
		if state != said {
			said = state
			_, _ = fmt.Fprintln(std.Out, state)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return reg.Close()
}
