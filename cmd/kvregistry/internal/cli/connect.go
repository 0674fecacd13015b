package cli

import (
	"errors"
	"io"
	"log/slog"
	"net/url"
	"time"

	"github.com/nats-io/nats.go"
)

// Lasting returns the options of a connection that never gives up, and reconnects quickly.
func Lasting(log *slog.Logger) []nats.Option {
	return []nats.Option{
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

// Dial is nats.Connect with errors that quote nothing of the URL, which may hold a password. In a
// wrong URL a piece of the password may even stand in place of a host or a port.
func Dial(to string, opts ...nats.Option) (*nats.Conn, error) {
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
	err, _ = printable(Cause(err)).(error)
	return err
}

// Logger returns a logger that writes to w if verbose is set, and nowhere otherwise.
func Logger(verbose bool, w io.Writer) *slog.Logger {
	if !verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(w, nil))
}
