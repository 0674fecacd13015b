package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

const aboutReaper = `kvregistry reaper removes what dead processes of a tenant left. It is for a
tenant whose processes may not reap or should not: those with the role registrar, or made
WithoutReaping. Its user needs the role reaper.

SIGINT and SIGTERM stop it. Run two, on two machines: each takes one of the tenant's two reaper
slots.`

// reap holds one of a tenant's reaper slots until a signal stops it.
func reap(args []string, std streams) error {
	var l login
	var tenant string
	var ttl time.Duration
	fs := flag.NewFlagSet("reaper", flag.ContinueOnError)
	l.flags(fs)
	fs.StringVar(&tenant, "tenant", kvregistry.DefaultTenant, "`name` of the tenant")
	fs.DurationVar(&ttl, "ttl", kvregistry.DefaultTTL, "the TTL that the tenant's processes use")
	if err := parse(fs, aboutReaper, args, std); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := logger(true, std.err)
	nc, err := l.connect(lasting("kvregistry reaper", log)...)
	if err != nil {
		return err
	}
	defer nc.Close()
	reg, err := kvregistry.New(ctx, nc, registryOptions(tenant, ttl, log)...)
	if errors.Is(err, kvregistry.ErrInvalidOption) {
		return wrongUsage("%w", err)
	} else if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(std.out, "ready: tenant %s\n", tenant)
	for said := ""; ctx.Err() == nil; {
		state := "stands by"
		if reg.Health().Reaps {
			state = "reaps: it holds a slot"
		}
		if state != said {
			said = state
			_, _ = fmt.Fprintln(std.out, state)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	stop() // a second signal ends the process at once
	return reg.Close()
}
