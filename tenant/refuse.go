package tenant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/backoff"
)

// An operator may allow again what the server refused, and nothing tells the process.
const (
	RefusedTime  = 5 * time.Second  // after which a process tries again what it needs
	dispenseTime = 10 * time.Minute // after which it tries again what it does without
)

// Do waits for the connection and runs request, which asks the server for something. subjects are
// those that request publishes to; a subject covers those below it, and one that ends in '*' those
// that begin like it. The context of request ends after limit, or soon after the server refused
// one of the subjects: a server does not answer a request that it refuses. Errors are those of
// [Bucket.Ensure].
func (b *Bucket) Do(
	ctx context.Context, limit time.Duration, request func(context.Context) error,
	subjects ...string,
) error {
	ctx, cancel := b.try(ctx, limit, subjects...)
	defer cancel()
	err := b.AwaitConnected(ctx)
	if err == nil {
		err = request(ctx)
	}
	return b.explain(ctx, err)
}

// refusalCurve is the time between two checks of try whether the server refused the request. The
// connection keeps one error: another one replaces a refusal that is not seen soon.
var refusalCurve = backoff.Curve{Least: time.Millisecond, Most: 20 * time.Millisecond}

// try returns the context of a request, as [Bucket.Do] gives it. If the server refuses the request,
// the context's cause wraps ErrPermission. The caller calls cancel when the request is over.
func (b *Bucket) try(
	ctx context.Context, limit time.Duration, subjects ...string,
) (context.Context, context.CancelFunc) {
	ctx, cancelTime := context.WithTimeout(ctx, limit)
	ctx, refuse := context.WithCancelCause(ctx)
	before := b.nc.LastError() // which the connection keeps for ever
	checks := 0
	var check func()
	check = func() { // ends with ctx
		if err := b.refusal(before, subjects...); err != nil {
			refuse(err)
		} else if ctx.Err() == nil {
			checks++
			time.AfterFunc(refusalCurve.After(checks), check)
		}
	}
	time.AfterFunc(refusalCurve.After(0), check)
	return ctx, func() {
		refuse(nil)
		cancelTime()
	}
}

// refusal is nil unless the connection has another error than before which says that the server
// refuses one of the subjects, or the answers to all requests.
func (b *Bucket) refusal(before error, subjects ...string) error {
	switch last := b.nc.LastError(); {
	case last == before:
		return nil
	case concerns(last, subjects...):
		return fmt.Errorf("%w: allow this user the subjects of bucket %s, "+
			"as operator.Permissions lists them (%w)",
			ErrPermission, b.name, last)
	case b.isDeaf(last):
		return fmt.Errorf("%w: this user may not subscribe to its answers: "+
			"connect with its inbox prefix, by nats.CustomInboxPrefix or --inbox (%w)",
			ErrPermission, last)
	}
	return nil
}

// concerns reports whether an error of the connection is a refusal of one of the subjects.
func concerns(err error, subjects ...string) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	text := err.Error()
	return slices.ContainsFunc(subjects, func(s string) bool {
		if prefix, ok := strings.CutSuffix(s, "*"); ok {
			return strings.Contains(text, `"`+prefix)
		}
		return strings.Contains(text, `"`+s+`"`) || strings.Contains(text, `"`+s+`.`)
	})
}

// isDeaf reports whether an error of the connection says that it may not subscribe to its answers.
func (b *Bucket) isDeaf(err error) bool {
	return concerns(err, cmp.Or(b.nc.Opts.InboxPrefix, "_INBOX"))
}

// refused is when the server refused something, and on which life of the connection.
type refused struct {
	at    time.Time
	lives uint64
}

// What a bucket remembers refusals of, beside writes of a kind of keys.
const (
	theBucket   = "the bucket"      // making it
	permissions = "the permissions" // asking for this user's
)

// remember notes that the server refuses something. Each refused try is an error in the server's
// log, and one on the user's connection.
func (b *Bucket) remember(what string) {
	b.refusals.Store(what, refused{time.Now(), b.nc.Stats().Reconnects})
}

// isRefused reports whether the server refused something on this connection, less than
// dispenseTime ago. A refusal to tell the permissions is good as long as the connection.
func (b *Bucket) isRefused(what string) bool {
	within := dispenseTime
	if what == permissions {
		within = math.MaxInt64
	}
	known, _ := b.refusals.Load(what)
	last, ok := known.(refused)
	return ok && time.Since(last.at) < within && last.lives == b.nc.Stats().Reconnects
}
