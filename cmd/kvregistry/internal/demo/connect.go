package demo

import (
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/kvregistry"
)

// connect makes a connection for a process that outlives its server. With patient it needs no
// server at the start.
func connect(to, name string, patient bool, log *slog.Logger) (*nats.Conn, error) {
	return cli.Dial(to, append(cli.Lasting(log), nats.Name(name),
		nats.RetryOnFailedConnect(patient))...)
}

// registryOptions returns the options of every registry in the demo.
func registryOptions(tenant string, ttl time.Duration, log *slog.Logger) []kvregistry.Option {
	return []kvregistry.Option{kvregistry.Tenant(tenant), kvregistry.TTL(ttl),
		kvregistry.Logger(log)}
}
