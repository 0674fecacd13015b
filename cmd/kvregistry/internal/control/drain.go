package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/tenant"
)

// How long an owner may take to say that it has begun, and then to say that it has ended. See
// docs/wire-format.md.
const (
	beginTime = 2 * time.Second
	endTime   = 15 * time.Second
)

// Drain asks the owner of an instance to drain it, and waits until it has. It calls begun when the
// owner has begun, unless begun is nil. The error wraps [ErrNotFound], [ErrDead], [ErrMute],
// [ErrSilent], [ErrFailed], [tenant.ErrPermission] or ctx's error.
func Drain(ctx context.Context, b *tenant.Bucket, service, id string, begun func()) error {
	return wrap(service, id, drain(ctx, b, service, id, begun))
}

func drain(ctx context.Context, b *tenant.Bucket, service, id string, begun func()) error {
	r, err := read(ctx, b, service, id)
	switch {
	case err != nil:
		return err
	case !r.alive:
		return fmt.Errorf("%w: a reaper removes the registration; if no process of the tenant "+
			"reaps, kvregistry deregister does", ErrDead)
	case r.owner.Control == "":
		return fmt.Errorf("%w: %s was made WithoutRemoteDrain or with an older version; have it "+
			"call Drain, or stop it", ErrMute, process(r.owner))
	}
	answers, err := b.Conn().SubscribeSync(wire.AnswerSubject(b.Inbox()))
	if err != nil {
		return err
	}
	defer func() { _ = answers.Unsubscribe() }() // an error says that it is gone
	sent := false
	answer, err := await(ctx, b, answers, beginTime, r.owner, func() error {
		if sent {
			return nil
		}
		sent = true
		return b.Conn().PublishRequest(r.owner.Control, answers.Subject,
			wire.DrainRequest(service, id))
	})
	if err == nil && answer.State == wire.Draining {
		if begun != nil {
			begun()
		}
		answer, err = await(ctx, b, answers, endTime, r.owner, func() error { return nil })
	}
	if err == nil && answer.State != wire.Drained {
		err = fmt.Errorf("%w: %s says: %s", ErrFailed, process(r.owner), answer.Error)
	}
	return err
}

// await sends something and waits for the owner's next answer.
func await(ctx context.Context, b *tenant.Bucket, answers *nats.Subscription, limit time.Duration,
	owner wire.LeaseValue, send func() error) (answer wire.Answer, err error) {
	err = b.Do(ctx, limit, func(ctx context.Context) error {
		if err := send(); err != nil {
			return err
		}
		for {
			msg, err := answers.NextMsgWithContext(ctx)
			if err != nil {
				return err
			}
			var ok bool
			if answer, ok = wire.ReadAnswer(msg.Data); ok {
				return nil
			}
		}
	}, owner.Control)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return answer, fmt.Errorf("%w: %s has ended, or is cut off; its registrations go when its "+
			"lease has run out", ErrSilent, process(owner))
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return answer, fmt.Errorf("%w within %s: %s is frozen or cut off, and drains it if it "+
			"goes on; or its user may not answer: see docs/security.md, Who may drain",
			ErrSilent, limit, process(owner))
	}
	return answer, err
}
