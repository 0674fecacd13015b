package tenants

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

func create(std cli.Streams) *cobra.Command {
	var l cli.Login
	var cfg tenant.Config
	c := named("create", "make a tenant's bucket, with its limits",
		"kvregistry tenant create <tenant> makes a tenant's bucket. If the bucket exists, it is "+
			"checked, and only a duplicate window that is too long is changed.",
		func(c *cobra.Command, name string) error {
			done := "tenant " + name + " is there"
			return report(c.Context(), &l, std, done,
				func(ctx context.Context, nc *nats.Conn) error {
					return operator.Provision(ctx, nc, name, cfg)
				})
		})
	fs := c.Flags()
	fs.IntVar(&cfg.Replicas, "replicas", 0, "how `many` servers keep the bucket: 1, 3 or 5; 0 is "+
		"1 on a single server and 3 in a cluster")
	fs.Int64Var(&cfg.MaxBytes, "max-bytes", 0, "the bucket's largest size in `bytes`; 0 is "+
		"without limit")
	fs.Int64Var(&cfg.MaxKeys, "max-keys", 0, "the largest `number` of registrations, leases and "+
		"keys that ended in the last 10 minutes together; 0 is without limit")
	fs.Int64Var(&cfg.MaxValue, "max-value", 0, "the longest value that the server takes, in "+
		"`bytes` with its headers; 0 is without limit")
	l.Flags(fs)
	return c
}

func change(std cli.Streams) *cobra.Command {
	var l cli.Login
	var cfg tenant.Config
	c := named("change", "change a tenant's limits",
		"kvregistry tenant change <tenant> sets limits of a bucket that exists. Other limits stay "+
			"as they are.",
		func(c *cobra.Command, name string) error {
			if cfg == (tenant.Config{}) {
				return cli.Usagef("say what to change: --max-keys, --max-bytes, --max-value or " +
					"--replicas")
			}
			done := "tenant " + name + " is changed"
			return report(c.Context(), &l, std, done,
				func(ctx context.Context, nc *nats.Conn) error {
					return operator.Change(ctx, nc, name, cfg)
				})
		})
	fs := c.Flags()
	fs.IntVar(&cfg.Replicas, "replicas", 0, "how `many` servers keep the bucket: 1, 3 or 5")
	fs.Var((*amount)(&cfg.MaxBytes), "max-bytes", "the bucket's largest size in `bytes`, or none")
	fs.Var((*amount)(&cfg.MaxKeys), "max-keys", "the largest `number` of registrations, leases "+
		"and keys that ended in the last 10 minutes together, or none")
	fs.Var((*amount)(&cfg.MaxValue), "max-value", "the longest value that the server takes, in "+
		"`bytes` with its headers, or none")
	l.Flags(fs)
	return c
}

// amount is a flag for a limit that can be removed.
type amount int64

func (a *amount) String() string { return limit(int64(*a)) }
func (a *amount) Type() string   { return "amount" }

func (a *amount) Set(text string) error {
	if text == "none" {
		*a = operator.Unlimited
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return errors.New("give a number above 0, or none")
	}
	*a = amount(n)
	return nil
}

func limit(n int64) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprint(n)
}
