package main

import (
	"errors"
	"io"
	"log/slog"
	"net/url"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
)

// connect makes a connection to NATS for a process that may outlive its server. With patient it
// needs no server at the start.
func connect(to, name string, patient bool, log *slog.Logger) (*nats.Conn, error) {
	return dial(to, append(lasting(name, log), nats.RetryOnFailedConnect(patient))...)
}

// lasting returns the options of a connection that never gives up, and reconnects quickly.
func lasting(name string, log *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.PingInterval(3 * time.Second), // as kvregistry.Dial
		nats.MaxPingsOutstanding(2),
		// The default one prints.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("nats", "error", err)
		}),
	}
}

var errURL = errors.New("the URL does not parse; write it as " + exampleURL + ", and write " +
	"characters of a password that are no letters or digits as %XX")

// dial is nats.Connect with errors that quote nothing of the URL, which may hold a password. In a
// wrong URL a piece of the password may even stand in place of a host or a port.
func dial(to string, opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect(to, opts...)
	return nc, withoutURL(err)
}

// withoutURL returns why connecting failed, without the URL, the host and the address.
func withoutURL(err error) error {
	var parse *url.Error
	if errors.As(err, &parse) {
		return errURL
	}
	// A URL may stand in place of a file, which the error names.
	err, _ = printable(cause(err)).(error)
	return err
}

// registryOptions returns the options of every registry in the demo.
func registryOptions(tenant string, ttl time.Duration, log *slog.Logger) []kvregistry.Option {
	return []kvregistry.Option{kvregistry.Tenant(tenant), kvregistry.TTL(ttl),
		kvregistry.Logger(log)}
}

// logger returns a logger that writes to w if verbose is set, and nowhere otherwise.
func logger(verbose bool, w io.Writer) *slog.Logger {
	if !verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(w, nil))
}
