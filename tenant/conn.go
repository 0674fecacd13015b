package tenant

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// AwaitConnected returns at once while the connection is up, and otherwise when it is; or with an error
// where ctx has ended, or ends, or the connection is closed for good.
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

// Disconnected is why NATS can't be reached, with the connection's last error; nil while the
// connection is up. The error wraps [ErrConnectionClosed] if it is closed for good.
func (b *Bucket) Disconnected() error {
	switch {
	case b.nc.IsConnected():
		return nil
	case b.nc.IsClosed():
		return closed(b.nc)
	}
	return blame(b.nc, fmt.Errorf("NATS is away (%s)", b.nc.Status()))
}

// closed says that a connection is closed for good, and why, as far as it knows.
func closed(nc *nats.Conn) error {
	return blame(nc, fmt.Errorf("%w: connect again and make a new registry", ErrConnectionClosed))
}

// Blame adds the connection's last error to an error that it may be the cause of: a server tells of
// much on the connection, and leaves the request unanswered.
func (b *Bucket) Blame(err error) error { return blame(b.nc, err) }

func blame(nc *nats.Conn, err error) error {
	last := nc.LastError()
	switch {
	case last == nil || errors.Is(err, last):
		return err
	case errors.Is(last, nats.ErrMaxSubscriptionsExceeded):
		return fmt.Errorf("%w: this connection may subscribe to nothing more: raise max_subscriptions of the server or the account, or subscribe to less on it (%w)", err, last)
	}
	return fmt.Errorf("%w (the connection's last error: %w)", err, last)
}

// Reconnected yields a value each time that the connection has come up again; a few are kept for who does not look.
// stop ends it.
func (b *Bucket) Reconnected() (up <-chan nats.Status, stop func()) {
	ch := b.nc.StatusChanged(nats.CONNECTED)
	return ch, func() { b.nc.RemoveStatusListener(ch) }
}
