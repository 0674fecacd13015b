// Package serve has the command that runs a NATS server for one machine.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/cmd/kvregistry/internal/natsserver"
	"github.com/kvregistry/go/cmd/kvregistry/internal/scrape"
	"github.com/kvregistry/go/kvregistry"
)

const about = `kvregistry serve runs a NATS server with JetStream, for services on one
machine. Services connect to the URL that it prints. SIGINT and SIGTERM stop it; its data stay in
the store.

It asks for no password: keep it on a loopback address, or run a nats-server with a configuration of
its own. It does not sync each write to the disk, so a power cut can lose the last ones. If that
must not happen, take three servers, or a nats-server with "sync_interval: always".

With --metrics it observes a tenant, and tells Prometheus of it. It makes the tenant if it is not
there.`

// Command is "kvregistry serve".
func Command(std cli.Streams) *cobra.Command {
	s := serving{Config: natsserver.Config{Warnings: std.Err}}
	c := &cobra.Command{
		Use: "serve", Short: "run a NATS server with JetStream on this machine", Long: about,
		Args: cli.Args(),
		RunE: func(c *cobra.Command, _ []string) error { return s.run(c.Context(), std) },
	}
	fs := c.Flags()
	fs.StringVar(&s.Store, "store", "./kvregistry-data", "`directory` of the data; it is made "+
		"if it does not exist")
	fs.StringVar(&s.Host, "host", "127.0.0.1", "`address` to listen on")
	fs.IntVar(&s.Port, "port", 4222, "`port` to listen on; 0 takes a free one")
	s.metrics.Flags(fs)
	fs.StringVar(&s.tenant, "tenant", kvregistry.DefaultTenant, "`name` of the tenant that "+
		"--metrics observes")
	return c
}

// serving holds the options of the command.
type serving struct {
	natsserver.Config
	metrics scrape.Option
	tenant  string
}

// run serves until a signal stops it.
func (cfg *serving) run(ctx context.Context, std cli.Streams) error {
	switch {
	case cfg.Port < 0 || cfg.Port > 65535:
		return cli.Usagef("--port %d is no port; use 1 to 65535, or 0 for a free one", cfg.Port)
	case cfg.Store == "":
		return cli.Usagef("--store is empty; name a directory")
	case cfg.Host == "":
		return cli.Usagef("--host is empty; use 127.0.0.1, or 0.0.0.0 for every address")
	}
	ctx, stop := cli.UntilSignal(ctx)
	defer stop()
	s, err := natsserver.Start(cfg.Config)
	if err != nil {
		return err
	}
	defer s.Stop()
	if listens, ok := s.Addr().(*net.TCPAddr); !ok || !listens.IP.IsLoopback() {
		_, _ = fmt.Fprintln(std.Err, "kvregistry serve: warning: other machines may reach this "+
			"server, and it asks nobody for a password; --host 127.0.0.1 keeps them out")
	}
	untilStopped := func() {
		_, _ = fmt.Fprintf(std.Out, "ready: %s (store %s)\n", s.URL(), cli.Place(cfg.Store))
		<-ctx.Done()
	}
	if cfg.metrics.Given() {
		return cfg.observe(ctx, s.URL(), std, untilStopped)
	}
	untilStopped()
	return nil
}

// observe serves the metrics of a tenant of the server while a function runs.
func (cfg *serving) observe(ctx context.Context, url string, std cli.Streams, run func()) error {
	log := cli.Logger(true, std.Err)
	nc, err := cli.Dial(url, cli.Lasting(log)...)
	if err != nil {
		return err
	}
	defer nc.Close()
	reg, err := kvregistry.New(ctx, nc, kvregistry.Tenant(cfg.tenant), kvregistry.Logger(log),
		kvregistry.WithoutReaping())
	if errors.Is(err, kvregistry.ErrInvalidOption) {
		return cli.Usagef("%w", err)
	} else if err != nil {
		return err
	}
	defer func() { _ = reg.Close() }()
	stop, err := cfg.metrics.Serve(ctx, reg, std)
	if err != nil {
		return err
	}
	defer stop()
	run()
	return nil
}
