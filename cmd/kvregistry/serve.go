package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
)

const aboutServe = `kvregistry serve runs a NATS server with JetStream, for services on one
machine. Services connect to the URL that it prints. SIGINT and SIGTERM stop it; its data stay in
the store.

It asks for no password: keep it on a loopback address, or run a nats-server with a configuration of
its own. It does not sync each write to the disk, so a power cut can lose the last ones. If that
must not happen, take three servers, or a nats-server with "sync_interval: always".`

// serve runs a server until a signal stops it.
func serve(args []string, std streams) error {
	cfg := serverConfig{warnings: std.err}
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	fs.StringVar(&cfg.store, "store", "./kvregistry-data", "`directory` of the data; it is made "+
		"if it does not exist")
	fs.StringVar(&cfg.host, "host", "127.0.0.1", "`address` to listen on")
	fs.IntVar(&cfg.port, "port", 4222, "`port` to listen on; 0 takes a free one")
	if err := parse(fs, aboutServe, args, std); err != nil {
		return err
	}
	switch {
	case cfg.port < 0 || cfg.port > 65535:
		return wrongUsage("--port %d is no port; use 1 to 65535, or 0 for a free one", cfg.port)
	case cfg.store == "":
		return wrongUsage("--store is empty; name a directory")
	case cfg.host == "":
		return wrongUsage("--host is empty; use 127.0.0.1, or 0.0.0.0 for every address")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := startServer(cfg)
	if err != nil {
		return err
	}
	defer s.stop()
	if listens, ok := s.srv.Addr().(*net.TCPAddr); !ok || !listens.IP.IsLoopback() {
		_, _ = fmt.Fprintln(std.err, "kvregistry serve: warning: other machines may reach this "+
			"server, and it asks nobody for a password; --host 127.0.0.1 keeps them out")
	}
	_, _ = fmt.Fprintf(std.out, "ready: %s (store %s)\n", s.url(), place(cfg.store))
	<-ctx.Done()
	stop() // a second signal ends the process at once
	return nil
}
