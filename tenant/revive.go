package tenant

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
)

// backlog is how many bytes may arrive in place of an answer before they explain why it is late.
const backlog = 64 << 10

// deafTime is the least time between two attempts at a connection whose server refuses to send answers to it.
const deafTime = 10 * time.Second

// Revive is for who missed an answer. It asks the server for a sign of life, and where none comes within the patience given,
// has the connection made again: a peer that is gone without a word is otherwise noticed after minutes only, when NATS's
// own pings went unanswered. It reports whether it did so. Where the server answers, it returns as soon as that does.
// A connection that may not subscribe to its answers any more is made again too, now and then: nats.go subscribes to them once
// in the life of a connection, so where the permission was taken and given back, no answer would ever come.
// It does nothing while the connection is down, while another call is at it, and without [Config.ForceReconnect].
func (b *Bucket) Revive(ctx context.Context, patience time.Duration) bool {
	if !b.cfg.ForceReconnect || !b.nc.IsConnected() || !b.reviving.TryLock() {
		return false
	}
	defer b.reviving.Unlock()
	lives, heard := b.nc.Stats().Reconnects, b.nc.Stats().InBytes
	dead := b.silent(ctx, patience)
	if dead && b.nc.Stats().InBytes-heard > backlog { // it may be slow only: the answer waits behind other messages
		dead = b.silent(ctx, 2*patience)
	}
	if !dead && b.deaf() && time.Since(b.unheard) > deafTime {
		b.unheard, dead = time.Now(), true
	}
	if !dead || ctx.Err() != nil || b.nc.Stats().Reconnects != lives {
		return false
	}
	return b.nc.ForceReconnect() == nil
}

// Move is for who gets no answer from JetStream on a connection that answers pings, and has not long to live without: the
// server may be cut off from the others of its cluster. It has the connection made to another server, and reports whether it did so. moves is
// how many times that was done since the last answer: each of the other servers is tried once. It does nothing where Revive does nothing.
func (b *Bucket) Move(moves int) bool {
	if !b.cfg.ForceReconnect || !b.nc.IsConnected() || moves >= len(b.nc.Servers())-1 || !b.reviving.TryLock() {
		return false
	}
	defer b.reviving.Unlock()
	return b.nc.ForceReconnect() == nil
}

// deaf reports whether the server refused this connection's subscription to its answers.
func (b *Bucket) deaf() bool {
	return b.isDeaf(b.nc.LastError())
}

// silent reports whether the server leaves a ping unanswered.
func (b *Bucket) silent(ctx context.Context, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := b.nc.FlushWithContext(ctx)
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)
}
