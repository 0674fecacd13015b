package wrap

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/check"
)

const aboutRegister = `kvregistry register registers an instance of a service, and deregisters it
when SIGINT or SIGTERM ends the command. If the command is killed, the registration runs out after
--ttl.

It is for something that runs elsewhere, for example a database. With --check it is called only
while it passes. To register a program that runs here, use "kvregistry run".`

// Register is "kvregistry register".
func Register(std cli.Streams) *cobra.Command {
	var r registration
	c := &cobra.Command{
		Use: "register <service>", Short: "register an instance for as long as it runs",
		Long:    aboutRegister,
		Example: "  kvregistry register db --address 10.0.0.7:5432 --check tcp:10.0.0.7:5432",
		Args:    cli.Args("service"),
		RunE: func(c *cobra.Command, args []string) error {
			return r.run(c.Context(), std, args[0])
		},
	}
	fs := c.Flags()
	r.described.flags(fs)
	r.checking.flags(fs)
	r.target.flags(fs)
	return c
}

type registration struct {
	target
	described
	checking
}

// run registers the instance until a signal ends it, or until another process takes its id over.
func (r *registration) run(ctx context.Context, std cli.Streams, name string) error {
	self, err := r.instance(name)
	if err != nil {
		return err
	}
	checks, err := r.checks()
	if err != nil {
		return err
	}
	ctx, stop := cli.UntilSignal(ctx)
	defer stop()
	if err := r.connect(std, "register", slog.LevelInfo); err != nil {
		return err
	}
	defer r.conn.Close()
	reg, err := r.await(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	defer func() { _ = reg.Close() }() // it logs what it could not do
	if len(checks) > 0 {
		self.Status = kvregistry.Critical // until they have run
		runner, err := check.RunInstance(reg, self.Name, self.ID, checks...)
		if err != nil {
			return err
		}
		defer runner.Stop()
	}
	if _, err := reg.RegisterContext(ctx, self); err != nil {
		return ended(ctx, err)
	}
	_, _ = fmt.Fprintf(std.Out, "registered %s/%s\n", self.Name, self.ID)
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	select {
	case <-ctx.Done():
		return nil
	case <-r.fenced:
		return takenOver(self)
	}
}

// ended is err, or nil if a signal ended the command.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
