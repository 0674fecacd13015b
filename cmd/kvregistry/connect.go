package main

import (
	"io"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
)

// connect connects to NATS as a process should that is to outlive its server: it never gives up, and is quick
// to come back. With patient it needs no server to begin with.
func connect(url, name string, patient bool, log *slog.Logger) (*nats.Conn, error) {
	return nats.Connect(url,
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100*time.Millisecond),
		nats.RetryOnFailedConnect(patient),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { // the default one prints
			log.Warn("nats", "error", err)
		}))
}

// registryOptions are those of every registry in the demo.
func registryOptions(tenant string, ttl time.Duration, log *slog.Logger) []kvregistry.Option {
	return []kvregistry.Option{kvregistry.Tenant(tenant), kvregistry.TTL(ttl), kvregistry.Logger(log)}
}

// logger writes to w with verbose, and else nowhere.
func logger(verbose bool, w io.Writer) *slog.Logger {
	if !verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(w, nil))
}
