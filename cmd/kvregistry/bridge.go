package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/bridge"
)

const aboutBridge = `kvregistry bridge joins a tenant with the processes that use the plain
pub/sub registry. What is registered on one side is seen on the other, so that a fleet moves one
process at a time. docs/moving.md tells how.

SIGINT and SIGTERM stop it. It leaves all registrations as they are, and the next bridge continues
within the TTL. Run two: one does the work, and the other takes over if that one dies.`

// joinPlain runs a bridge until a signal stops it.
func joinPlain(args []string, std streams) error {
	var l, plain login
	var tenant, prefix string
	var ttl, interval time.Duration
	var most int
	fs := flag.NewFlagSet("bridge", flag.ContinueOnError)
	l.flags(fs)
	fs.StringVar(&plain.url, "plain-server", "", "`URL` of the plain processes' server; the same "+
		"one by default")
	fs.StringVar(&plain.creds, "plain-creds", "", "credentials `file` for it")
	fs.StringVar(&tenant, "tenant", kvregistry.DefaultTenant, "`name` of the tenant")
	fs.StringVar(&prefix, "prefix", bridge.DefaultPrefix, "`prefix` of the plain processes' "+
		"subjects, their main topic")
	fs.DurationVar(&ttl, "ttl", kvregistry.DefaultTTL, "the `TTL` of the lease of what is heard, "+
		"whole seconds from 2s to 24h; the same for all bridges")
	fs.DurationVar(&interval, "interval", bridge.DefaultInterval, "the `time` after which plain "+
		"processes hear again of an instance")
	fs.IntVar(&most, "max-instances", bridge.DefaultMaxInstances, "how `many` instances of plain "+
		"processes may be registered")
	if err := parse(fs, aboutBridge, args, std); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := logger(true, std.err)
	nc, err := l.connect(lasting("kvregistry bridge", log)...)
	if err != nil {
		return err
	}
	defer nc.Close()
	opts := []bridge.Option{
		bridge.Tenant(tenant), bridge.Prefix(prefix), bridge.TTL(ttl), bridge.Interval(interval),
		bridge.MaxInstances(most), bridge.Logger(log),
	}
	if plain != (login{}) {
		plain.url, plain.ca = cmp.Or(plain.url, l.url), l.ca
		other, err := plain.connect(lasting("kvregistry bridge", log)...)
		if err != nil {
			return fmt.Errorf("--plain-server and --plain-creds: %w", err)
		}
		defer other.Close()
		opts = append(opts, bridge.Plain(other))
	}
	b, err := bridge.New(ctx, nc, opts...)
	if errors.Is(err, kvregistry.ErrInvalidOption) {
		return wrongUsage("%w", err)
	} else if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(std.out, "ready: tenant %s and the plain processes of %s\n", tenant, prefix)
	<-ctx.Done()
	stop() // a second signal ends the process at once
	return b.Close()
}
