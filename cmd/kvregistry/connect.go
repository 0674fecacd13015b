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

// connect connects to NATS as a process should that is to outlive its server. With patient it needs no server to begin with.
func connect(to, name string, patient bool, log *slog.Logger) (*nats.Conn, error) {
	return dial(to, append(lasting(name, log), nats.RetryOnFailedConnect(patient))...)
}

// lasting are the options of a connection that never gives up, and is quick to come back.
func lasting(name string, log *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.PingInterval(3 * time.Second), // as kvregistry.Dial
		nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { // the default one prints
			log.Warn("nats", "error", err)
		}),
	}
}

var errURL = errors.New("the URL does not parse; write it as " + exampleURL + ", with a password's other characters than letters and digits as %XX")

// dial is nats.Connect. Its errors quote nothing of the URL, which may hold a password: where it is not as it should be, a piece of that may even
// stand where a host or a port does.
func dial(to string, opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect(to, opts...)
	return nc, withoutURL(err)
}

// withoutURL is why connecting failed, without the URL and where it leads.
func withoutURL(err error) error {
	var parse *url.Error
	if errors.As(err, &parse) {
		return errURL
	}
	err, _ = printable(cause(err)).(error) // a URL may stand where a file does, which the error names
	return err
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
