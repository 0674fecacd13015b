// Package bridge has the command that joins a tenant with the plain pub/sub registry.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/bridge"
)

const about = `kvregistry bridge joins a tenant with the processes that use the plain
pub/sub registry. What is registered on one side is seen on the other, so that a fleet moves one
process at a time. docs/moving.md tells how.

SIGINT and SIGTERM stop it. It leaves all registrations as they are, and the next bridge continues
within the TTL. Run two: one does the work, and the other takes over if that one dies.`

// Command is "kvregistry bridge".
func Command(std cli.Streams) *cobra.Command {
	var b bridging
	c := &cobra.Command{
		Use: "bridge", Short: "join a tenant with processes that use the plain pub/sub registry",
		Long: about, Args: cli.Args(),
		RunE: func(c *cobra.Command, _ []string) error { return b.run(c.Context(), std) },
	}
	fs := c.Flags()
	fs.StringVar(&b.tenant, "tenant", kvregistry.DefaultTenant, "`name` of the tenant")
	fs.StringVar(&b.prefix, "prefix", bridge.DefaultPrefix, "`prefix` of the plain processes' "+
		"subjects, their main topic")
	fs.DurationVar(&b.ttl, "ttl", kvregistry.DefaultTTL, "the `TTL` of the lease of what is "+
		"heard, whole seconds from 2s to 24h; the same for all bridges")
	fs.DurationVar(&b.interval, "interval", bridge.DefaultInterval, "the `time` after which plain "+
		"processes hear again of an instance")
	fs.IntVar(&b.most, "max-instances", bridge.DefaultMaxInstances, "how `many` instances of "+
		"plain processes may be registered")
	b.plain.Short(fs, "plain-", "the plain processes' server; the same one by default")
	b.Flags(fs)
	return c
}

type bridging struct {
	cli.Login
	plain          cli.Login
	tenant, prefix string
	ttl, interval  time.Duration
	most           int
}

// run joins both until a signal stops it.
func (b *bridging) run(ctx context.Context, std cli.Streams) error {
	ctx, stop := cli.UntilSignal(ctx)
	defer stop()
	log := cli.Logger(true, std.Err)
	nc, err := b.Connect("bridge", cli.Lasting(log)...)
	if err != nil {
		return err
	}
	defer nc.Close()
	opts := []bridge.Option{
		bridge.Tenant(b.tenant), bridge.Prefix(b.prefix), bridge.TTL(b.ttl),
		bridge.Interval(b.interval), bridge.MaxInstances(b.most), bridge.Logger(log),
	}
	if b.plain.Given() {
		plain := b.plain.Over(b.Login)
		other, err := plain.Connect("bridge", cli.Lasting(log)...)
		if err != nil {
			return fmt.Errorf("--plain-server and --plain-creds: %w", err)
		}
		defer other.Close()
		opts = append(opts, bridge.Plain(other))
	}
	joined, err := bridge.New(ctx, nc, opts...)
	if errors.Is(err, kvregistry.ErrInvalidOption) {
		return cli.Usagef("%w", err)
	} else if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(std.Out, "ready: tenant %s and the plain processes of %s\n", b.tenant,
		b.prefix)
	<-ctx.Done()
	return joined.Close()
}
