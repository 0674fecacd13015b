package tenant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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

// refusalTime is how often it is looked whether a request that is not answered was refused.
const refusalTime = 20 * time.Millisecond

// tries are the requests that are under way. While there are any, one look after the other sees whether some of them were refused.
type tries struct {
	mu    sync.Mutex
	all   map[*try]struct{}
	looks bool  // a look is due
	last  error // the connection's, at the last look
}

// try is a request that is under way.
type try struct {
	before   error // the connection's last error as it began, which the connection keeps for ever
	subjects []string
	refuse   context.CancelCauseFunc
}

// Try bounds a request to the server in time. A server leaves a request that it refuses unanswered, and says so on the connection:
// then the context ends at once, and [Bucket.Explain] says why. subjects are those that are published
// to; each may go on behind a dot, and one that ends in '*' with anything. The caller calls cancel when
// the request is over.
func (b *Bucket) Try(ctx context.Context, limit time.Duration, subjects ...string) (_ context.Context, cancel context.CancelFunc) {
	ctx, cancelTime := context.WithTimeout(ctx, limit)
	ctx, refuse := context.WithCancelCause(ctx)
	t := &try{b.nc.LastError(), subjects, refuse}
	b.tries.mu.Lock()
	defer b.tries.mu.Unlock()
	b.tries.all[t] = struct{}{}
	if !b.tries.looks {
		b.tries.looks = true
		time.AfterFunc(refusalTime, b.look) // ends when no request is under way
	}
	return ctx, func() {
		b.tries.mu.Lock()
		delete(b.tries.all, t)
		b.tries.mu.Unlock()
		refuse(nil)
		cancelTime()
	}
}

// look ends the requests that were refused, and comes again while there are others.
func (b *Bucket) look() {
	b.judgeAll()
	b.tries.mu.Lock()
	defer b.tries.mu.Unlock()
	if b.tries.looks = len(b.tries.all) > 0; b.tries.looks {
		time.AfterFunc(refusalTime, b.look)
	}
}

// judgeAll ends the requests that the connection's last error says to be refused.
func (b *Bucket) judgeAll() {
	last := b.nc.LastError()
	b.tries.mu.Lock()
	defer b.tries.mu.Unlock()
	if last != b.tries.last {
		b.tries.last = last
		for t := range b.tries.all {
			if last != t.before {
				b.judge(t, last)
			}
		}
	}
}

// judge ends a request where an error of the connection says that it was refused.
func (b *Bucket) judge(t *try, last error) {
	switch {
	case concerns(last, t.subjects):
		t.refuse(fmt.Errorf("%w: allow this user the subjects of bucket %s, as operator.Permissions lists them (%w)", ErrPermission, b.name, last))
	case b.isDeaf(last):
		t.refuse(fmt.Errorf("%w: this user may not subscribe to its answers: connect with its nats.CustomInboxPrefix (%w)", ErrPermission, last))
	}
}

// concerns reports whether an error of the connection is a permission violation about one of the subjects.
func concerns(err error, subjects []string) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	text := err.Error()
	return slices.ContainsFunc(subjects, func(s string) bool {
		if any, ok := strings.CutSuffix(s, "*"); ok {
			return strings.Contains(text, `"`+any)
		}
		return strings.Contains(text, `"`+s+`"`) || strings.Contains(text, `"`+s+`.`)
	})
}

// isDeaf reports whether an error of the connection is that it may not subscribe to its answers.
func (b *Bucket) isDeaf(err error) bool {
	return concerns(err, []string{cmp.Or(b.nc.Opts.InboxPrefix, "_INBOX")})
}
