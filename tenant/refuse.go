package tenant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// What a server refuses may be allowed again without a word, where its operator changes permissions.
const (
	RefusedTime  = 5 * time.Second  // after which what a process can't do without is tried again
	DispenseTime = 10 * time.Minute // after which what it does without is; or when the connection was made again
)

// refusal is when something was refused, and how many times the connection had been made again by then.
type refusal struct {
	at    time.Time
	lives uint64
}

// refusalTime is how often a request that is not answered looks whether it was refused.
const refusalTime = 20 * time.Millisecond

// Try bounds a request to the server in time. A server leaves a request that it refuses unanswered, and says so on the connection:
// then the context ends at once, and [Bucket.Explain] says why. subjects are those that are published to; each may go on behind a dot, and
// one that ends in '*' with anything but the reapers' queue. The caller calls cancel when the request is over.
func (b *Bucket) Try(ctx context.Context, limit time.Duration, subjects ...string) (_ context.Context, cancel context.CancelFunc) {
	before := b.nc.LastError() // which the connection keeps for ever
	ctx, cancelTime := context.WithTimeout(ctx, limit)
	ctx, refuse := context.WithCancelCause(ctx)
	look := time.AfterFunc(refusalTime, func() { // ends with ctx
		tick := time.NewTicker(refusalTime)
		defer tick.Stop()
		for {
			switch last := b.nc.LastError(); {
			case last == before:
			case concerns(last, subjects):
				refuse(fmt.Errorf("%w: allow this user the subjects of bucket %s, as tenant.Permissions lists them (%w)", ErrPermission, b.name, last))
			case b.isDeaf(last):
				refuse(fmt.Errorf("%w: this user may not subscribe to its answers: connect with its nats.CustomInboxPrefix (%w)", ErrPermission, last))
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return ctx, func() { look.Stop(); refuse(nil); cancelTime() }
}

// concerns reports whether an error of the connection is a permission violation about one of the subjects.
func concerns(err error, subjects []string) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	text := err.Error()
	return slices.ContainsFunc(subjects, func(s string) bool {
		if any, ok := strings.CutSuffix(s, "*"); ok {
			return strings.Contains(text, `"`+any) && !strings.Contains(text, `"`+any+`reaper"`)
		}
		return strings.Contains(text, `"`+s+`"`) || strings.Contains(text, `"`+s+`.`)
	})
}

// isDeaf reports whether an error of the connection is that it may not subscribe to its answers.
func (b *Bucket) isDeaf(err error) bool {
	return concerns(err, []string{cmp.Or(b.nc.Opts.InboxPrefix, "_INBOX")})
}
