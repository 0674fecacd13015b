package lease

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ErrLost is why a lease ended that its process did not give back.
var ErrLost = errors.New("lease lost")

var (
	errRevoked    = errors.New("lease revoked")
	errUnanswered = fmt.Errorf("no answer to a heartbeat: %w", context.DeadlineExceeded)
)

// Lease is one grant, from its first write to its end. Its methods may be called by any number of
// goroutines.
type Lease struct {
	ID string

	key   ed25519.PrivateKey // signs the heartbeats of a keyed lease; nil for another
	ttl   time.Duration
	ctx   context.Context // ends with the lease
	end   context.CancelCauseFunc
	first uint64                    // revision of the write that granted it
	begun atomic.Pointer[time.Time] // when the last acknowledged heartbeat was begun

	// The keeper's goroutine alone uses these.
	rev   uint64    // of the last acknowledged heartbeat
	asked time.Time // when the first heartbeat after that one was begun; zero if none was
}

// Revision returns the bucket's revision of the write that granted the lease.
func (l *Lease) Revision() uint64 { return l.first }

// Done returns a channel that closes when the lease is over, and so is what lived by it.
func (l *Lease) Done() <-chan struct{} { return l.ctx.Done() }

// Err returns nil while the lease lives. Then it says why the lease ended, and wraps [ErrLost]
// unless the keeper was closed.
func (l *Lease) Err() error { return context.Cause(l.ctx) }

// Until returns the time, by this process's clock, up to which the server keeps the lease for
// certain. Each acknowledged heartbeat moves that time on. The server counts from when a heartbeat
// arrives, so Until counts from when the heartbeat was begun, and leaves out an eighth of the TTL
// for clocks that run unevenly.
func (l *Lease) Until() time.Time { return l.begun.Load().Add(sureTime(l.ttl)) }
