package tenant

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// Conn is the caller's connection.
func (b *Bucket) Conn() *nats.Conn { return b.nc }

// Inbox returns a new subject below the connection's inbox prefix, to which its user may subscribe.
// Unlike an inbox of nats.go, it tells nothing of the connection's other inboxes.
func (b *Bucket) Inbox() string {
	return cmp.Or(b.nc.Opts.InboxPrefix, strings.TrimSuffix(nats.InboxPrefix, ".")) + "." +
		rand.Text()
}

// AwaitConnected returns when the connection is up. It returns an error if ctx has ended or ends,
// or if the connection is closed for good.
func (b *Bucket) AwaitConnected(ctx context.Context) error {
	if err := ctx.Err(); err != nil || b.nc.IsConnected() {
		return err
	}
	status := b.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer b.nc.RemoveStatusListener(status)
	for !b.nc.IsConnected() {
		if b.nc.IsClosed() {
			return closed(b.nc)
		}
		select {
		case <-ctx.Done():
			if why := b.Disconnected(); why != nil {
				return fmt.Errorf("%w: %w", ctx.Err(), why)
			}
			return ctx.Err()
		case <-status:
		}
	}
	return nil
}

// Disconnected says why NATS can't be reached, with the connection's last error. It is nil while
// the connection is up. The error wraps [ErrConnectionClosed] if the connection is closed for good.
func (b *Bucket) Disconnected() error {
	switch {
	case b.nc.IsConnected():
		return nil
	case b.nc.IsClosed():
		return closed(b.nc)
	}
	return b.Blame(fmt.Errorf("NATS is away (%s)", b.nc.Status()))
}

// closed says that a connection is closed for good, and why, as far as the connection knows.
func closed(nc *nats.Conn) error {
	return blame(nc, fmt.Errorf("%w: connect again and make a new registry", ErrConnectionClosed))
}

// Blame adds the connection's last error to an error that it may have caused. A server reports
// many faults on the connection, and leaves the request unanswered.
func (b *Bucket) Blame(err error) error { return blame(b.nc, err) }

// LastError is the connection's last error. While nats.go connects it keeps none: it is then what
// the connection's dialer says, if the dialer has a LastError, too.
func (b *Bucket) LastError() error { return lastError(b.nc) }

func lastError(nc *nats.Conn) error {
	d, ok := nc.Opts.CustomDialer.(interface{ LastError() error })
	if last := nc.LastError(); last != nil || !ok {
		return last
	}
	return d.LastError()
}

func blame(nc *nats.Conn, err error) error {
	last := lastError(nc)
	switch {
	case last == nil || errors.Is(err, last):
		return err
	case errors.Is(last, nats.ErrMaxSubscriptionsExceeded):
		return fmt.Errorf("%w: this connection may subscribe to nothing more: "+
			"raise max_subscriptions of the server or the account, or subscribe to less on it (%w)",
			err, last)
	}
	return fmt.Errorf("%w (the connection's last error: %w)", err, last)
}

// Reconnected returns a channel that gets a value each time that the connection has come up again.
// The channel keeps a few. stop ends it.
func (b *Bucket) Reconnected() (up <-chan nats.Status, stop func()) {
	ch := b.nc.StatusChanged(nats.CONNECTED)
	return ch, func() { b.nc.RemoveStatusListener(ch) }
}
