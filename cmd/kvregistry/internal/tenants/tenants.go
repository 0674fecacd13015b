// Package tenants has the commands that make, change, list and delete tenants, and that print what
// their users may do.
package tenants

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// Command is "kvregistry tenant".
func Command(std cli.Streams) *cobra.Command {
	c := &cobra.Command{
		Use: "tenant", Short: "make, list and delete tenants, and print their users' permissions",
		Long: "kvregistry tenant makes, lists and deletes tenants, and says what their users may " +
			"do.",
	}
	c.AddCommand(create(std), change(std), mirror(std), list(std), permissions(std), account(std),
		config(std), remove(std))
	return c
}

// named is a command whose argument is the name of a tenant.
func named(use, short, long string, run func(c *cobra.Command, name string) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " <tenant>", Short: short, Long: long, Args: checkName,
		RunE: func(c *cobra.Command, args []string) error { return run(c, args[0]) },
	}
}

// checkName checks the argument of a command that is named.
func checkName(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		if err := cli.CheckSecret("the tenant", args[0]); err != nil {
			return err
		}
		if _, err := tenant.BucketName(args[0]); err == nil {
			return cli.Args("tenant")(c, args)
		}
	}
	return cli.Usagef("name a tenant first: 1 to 64 letters, digits, '-' and '_'")
}

// report connects, calls a function and prints what was done.
func report(ctx context.Context, l *cli.Login, std cli.Streams, done string,
	f func(context.Context, *nats.Conn) error) error {
	return do(ctx, l, func(ctx context.Context, nc *nats.Conn) error {
		if err := f(ctx, nc); err != nil {
			return err
		}
		_, err := fmt.Fprintln(std.Out, done)
		return err
	})
}

// do connects, calls a function and disconnects.
func do(ctx context.Context, l *cli.Login, f func(context.Context, *nats.Conn) error) error {
	nc, err := l.Connect("tenant")
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err = f(ctx, nc); errors.Is(err, tenant.ErrBucketNotFound) {
		err = cli.Nonef("%w", err)
	}
	return err
}

func mirror(std cli.Streams) *cobra.Command {
	var l cli.Login
	var domain string
	c := named("mirror", "mirror a hub's bucket in a leaf node's domain",
		"kvregistry tenant mirror <tenant> mirrors a tenant's bucket in the JetStream of the leaf "+
			"node that it connects to. It replaces a mirror of a bucket that was deleted and "+
			"recreated.",
		func(c *cobra.Command, name string) error {
			if domain == "" {
				return cli.Usagef("name the domain that the bucket is in: --hub-domain")
			}
			done := "tenant " + name + " is mirrored"
			return report(c.Context(), &l, std, done,
				func(ctx context.Context, nc *nats.Conn) error {
					return operator.MakeMirror(ctx, nc, name, domain)
				})
		})
	c.Flags().StringVar(&domain, "hub-domain", "", "JetStream `domain` of the hub, which has the "+
		"bucket")
	l.Flags(c.Flags())
	return c
}

func list(std cli.Streams) *cobra.Command {
	var l cli.Login
	c := &cobra.Command{
		Use: "list", Short: "list the account's tenants", Args: cli.Args(),
		Long: "kvregistry tenant list lists the account's tenants. It needs a user that may see " +
			"all of the account's streams.",
		RunE: func(c *cobra.Command, _ []string) error {
			return do(c.Context(), &l, func(ctx context.Context, nc *nats.Conn) error {
				all, err := operator.List(ctx, nc)
				if err != nil {
					return err
				}
				return printTenants(std, all)
			})
		},
	}
	l.Flags(c.Flags())
	return c
}

func printTenants(std cli.Streams, all []operator.Info) error {
	w := tabwriter.NewWriter(std.Out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "tenant\tkeys\tmax keys\tbytes\tmax bytes\treplicas")
	for _, t := range all {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%d\n", t.Tenant, t.Keys, limit(t.MaxKeys),
			t.Bytes, limit(t.MaxBytes), t.Replicas)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	said := map[string]bool{} // what concerns the server is the same for each of its tenants
	for _, t := range all {
		for _, advice := range t.Advice {
			if !said[advice] {
				said[advice] = true
				_, _ = fmt.Fprintln(std.Err, "kvregistry tenant list:", advice)
			}
		}
	}
	return nil
}

func remove(std cli.Streams) *cobra.Command {
	var l cli.Login
	var yes bool
	c := named("delete", "delete a tenant's bucket and all that is in it",
		"kvregistry tenant delete <tenant> deletes a tenant's bucket and all that is in it.",
		func(c *cobra.Command, name string) error {
			if !yes {
				return cli.Usage(fmt.Errorf("this ends every registration of tenant %s; add --yes "+
					"to do it", name))
			}
			done := "tenant " + name + " is deleted"
			return report(c.Context(), &l, std, done,
				func(ctx context.Context, nc *nats.Conn) error {
					return operator.Remove(ctx, nc, name)
				})
		})
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	l.Flags(c.Flags())
	return c
}
