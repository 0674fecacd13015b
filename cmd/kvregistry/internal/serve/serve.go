// Package serve has the command that runs a NATS server for one machine.
package serve

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/cmd/kvregistry/internal/natsserver"
)

const about = `kvregistry serve runs a NATS server with JetStream, for services on one
machine. Services connect to the URL that it prints. SIGINT and SIGTERM stop it; its data stay in
the store.

It asks for no password: keep it on a loopback address, or run a nats-server with a configuration of
its own. It does not sync each write to the disk, so a power cut can lose the last ones. If that
must not happen, take three servers, or a nats-server with "sync_interval: always".`

// Command is "kvregistry serve".
func Command(std cli.Streams) *cobra.Command {
	cfg := natsserver.Config{Warnings: std.Err}
	c := &cobra.Command{
		Use: "serve", Short: "run a NATS server with JetStream on this machine", Long: about,
		Args: cli.Args(),
		RunE: func(c *cobra.Command, _ []string) error { return run(c.Context(), cfg, std) },
	}
	fs := c.Flags()
	fs.StringVar(&cfg.Store, "store", "./kvregistry-data", "`directory` of the data; it is made "+
		"if it does not exist")
	fs.StringVar(&cfg.Host, "host", "127.0.0.1", "`address` to listen on")
	fs.IntVar(&cfg.Port, "port", 4222, "`port` to listen on; 0 takes a free one")
	return c
}

// run serves until a signal stops it.
func run(ctx context.Context, cfg natsserver.Config, std cli.Streams) error {
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
	s, err := natsserver.Start(cfg)
	if err != nil {
		return err
	}
	defer s.Stop()
	if listens, ok := s.Addr().(*net.TCPAddr); !ok || !listens.IP.IsLoopback() {
		_, _ = fmt.Fprintln(std.Err, "kvregistry serve: warning: other machines may reach this "+
			"server, and it asks nobody for a password; --host 127.0.0.1 keeps them out")
	}
	_, _ = fmt.Fprintf(std.Out, "ready: %s (store %s)\n", s.URL(), cli.Place(cfg.Store))
	<-ctx.Done()
	return nil
}
