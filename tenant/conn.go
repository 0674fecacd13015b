package tenant

import (
	"context"
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
			return fmt.Errorf("%w: connect again and make a new registry", ErrConnectionClosed)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not connected to NATS (%s): %w", b.nc.Status(), ctx.Err())
		case <-status:
		}
	}
	return nil
}

// Reconnected yields a value each time that the connection has come up again; a few are kept for who does not look.
// stop ends it.
func (b *Bucket) Reconnected() (up <-chan nats.Status, stop func()) {
	ch := b.nc.StatusChanged(nats.CONNECTED)
	return ch, func() { b.nc.RemoveStatusListener(ch) }
}
