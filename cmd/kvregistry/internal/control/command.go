package control

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/tenant"
)

const aboutDrain = `kvregistry drain asks the process that registered an instance to drain it, and
waits for its answer: the process marks the instance draining, waits 2.5 s for its callers, and
unregisters it. The process goes on, and the instance stays out until the process registers it
again. A process that does not answer within 2 s counts as frozen or cut off.

The user needs the role operator. The exit code is 3 if there is no such instance.`

const aboutDeregister = `kvregistry deregister removes the registration of an instance whose process
is dead. Reapers do that by themselves: it is for a tenant in which no process reaps, and for a
value that is no registration. A newer registration of the id is never removed.

If the process is alive the command refuses. With --force it removes the registration all the same,
and the process writes it again as soon as it sees that: use "kvregistry drain" to take an instance
out of the calls.

The user needs a role that may write the service. The exit code is 3 if there is no such instance.`

// DrainCommand is "kvregistry drain".
func DrainCommand(std cli.Streams) *cobra.Command {
	return command("drain", "have the owner of an instance drain it", aboutDrain,
		func(ctx context.Context, b *tenant.Bucket, service, id string) error {
			err := Drain(ctx, b, service, id, func() {
				if std.Terminal() {
					_, _ = fmt.Fprintf(std.Err, "%s is draining\n", cli.Escape(service+"/"+id))
				}
			})
			if err == nil {
				_, _ = fmt.Fprintf(std.Out, "drained %s\n", cli.Escape(service+"/"+id))
			}
			return err
		})
}

// DeregisterCommand is "kvregistry deregister".
func DeregisterCommand(std cli.Streams) *cobra.Command {
	force := false
	c := command("deregister", "remove the registration of a dead process", aboutDeregister,
		func(ctx context.Context, b *tenant.Bucket, service, id string) error {
			err := Deregister(ctx, b, service, id, force)
			if err == nil {
				_, _ = fmt.Fprintf(std.Out, "deregistered %s\n", cli.Escape(service+"/"+id))
			}
			return err
		})
	c.Flags().BoolVar(&force, "force", false, "remove the registration of a living process, too, "+
		"which writes it again")
	return c
}

// command is a command that does something to one instance.
func command(name, short, long string,
	do func(ctx context.Context, b *tenant.Bucket, service, id string) error) *cobra.Command {
	var t cli.Target
	c := &cobra.Command{
		Use: name + " service/id", Short: short, Long: long, Args: cli.Args("service/id"),
		RunE: func(c *cobra.Command, args []string) error {
			service, id, ok := strings.Cut(args[0], "/")
			if !ok || service == "" || id == "" {
				return cli.Usagef("%q is no instance: name it as service/id", args[0])
			}
			s, err := t.Open(c.Context(), name)
			if err != nil {
				return err
			}
			defer s.Close()
			err = do(c.Context(), s.Bucket, service, id)
			switch {
			case errors.Is(err, tenant.ErrInvalidName):
				return cli.Usage(err)
			case errors.Is(err, ErrNotFound):
				return cli.Nonef("there is no %s in tenant %s", args[0], t.Tenant)
			}
			return err
		},
	}
	t.Flags(c.Flags())
	return c
}
