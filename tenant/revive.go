package tenant

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
)

// backlog is how many bytes may arrive in place of an answer before they explain why it is late.
const backlog = 64 << 10

// deafTime is the least time between two reconnects because the server refuses to send answers.
const deafTime = 10 * time.Second

// Revive checks the connection after a request went unanswered, and reports whether it
// reconnected. It pings the server, and returns as soon as the server answers. It reconnects if no
// answer comes within patience: NATS's own pings notice a peer that is gone minutes later.
//
// Revive also reconnects now and then if the connection may not subscribe to its answers: nats.go
// subscribes to them once in the life of a connection, and does not notice when they are allowed
// again. It does nothing while the connection is down, while another call runs, and without
// [Config.ForceReconnect].
func (b *Bucket) Revive(ctx context.Context, patience time.Duration) bool {
	if !b.cfg.ForceReconnect || !b.nc.IsConnected() || !b.reviving.TryLock() {
		return false
	}
	defer b.reviving.Unlock()
	lives, heard := b.nc.Stats().Reconnects, b.nc.Stats().InBytes
	dead := b.silent(ctx, patience)
	if dead && b.nc.Stats().InBytes-heard > backlog { // the answer may wait behind other messages
		dead = b.silent(ctx, 2*patience)
	}
	if !dead && b.isDeaf(b.nc.LastError()) && time.Since(b.unheard) > deafTime {
		b.unheard, dead = time.Now(), true
	}
	if !dead || ctx.Err() != nil || b.nc.Stats().Reconnects != lives {
		return false
	}
	return b.nc.ForceReconnect() == nil
}

// Move reconnects to another server if JetStream does not answer and the connection does: the
// server may be cut off from the others of its cluster. moves is how often the caller moved since
// the last answer: each of the other servers is tried once. Move reports whether it reconnected.
// It does nothing if Revive does nothing.
func (b *Bucket) Move(moves int) bool {
	if !b.cfg.ForceReconnect || !b.nc.IsConnected() || moves >= len(b.nc.Servers())-1 ||
		!b.reviving.TryLock() {
		return false
	}
	defer b.reviving.Unlock()
	return b.nc.ForceReconnect() == nil
}

// silent reports whether the server leaves a ping unanswered.
func (b *Bucket) silent(ctx context.Context, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := b.nc.FlushWithContext(ctx)
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)
}
