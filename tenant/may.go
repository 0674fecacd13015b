package tenant

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/tenant/internal/stream"
)

// askTime bounds the wait for a user's permissions.
const askTime = time.Second

// grants are a list of subjects that are allowed and one of those that are not.
type grants struct {
	Allow []string `json:"allow"`
	Deny  []string `json:"deny"`
}

// MayWrite reports whether the server lets this user write a key. It is true if the server does not
// say. A user that may not ask is not asked for again on the same connection.
func (b *Bucket) MayWrite(ctx context.Context, key string) bool {
	return b.may(ctx, b.target(key))
}

// may reports whether this user may publish to a subject, as far as the server says.
//
// It saves a process the tries that its role does not include: each one is an error in the server's
// log, and one on the user's connection.
func (b *Bucket) may(ctx context.Context, subject string) bool {
	lives := b.nc.Stats().Reconnects + 1
	if b.mute.Load() == lives {
		return true
	}
	ctx, cancel := b.Try(ctx, askTime, stream.UserInfo)
	defer cancel()
	publish, err := b.askGrants(ctx)
	if errors.Is(context.Cause(ctx), ErrPermission) {
		b.mute.Store(lives)
	}
	return err != nil || publish == nil || publish.include(subject)
}

// askGrants is what this user may publish, nil if that is everything. A leaf node's server answers
// the request too, for the connection between the two servers, so the answer of this connection's
// server is waited for.
func (b *Bucket) askGrants(ctx context.Context) (*grants, error) {
	inbox := b.nc.NewInbox()
	sub, err := b.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := b.nc.PublishRequest(stream.UserInfo, inbox, nil); err != nil {
		return nil, err
	}
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, err
		}
		var answer struct {
			Server struct {
				ID string `json:"id"`
			} `json:"server"`
			Data struct {
				Permissions struct {
					Publish *grants `json:"publish"`
				} `json:"permissions"`
			} `json:"data"`
		}
		switch err := json.Unmarshal(msg.Data, &answer); {
		case len(msg.Data) == 0: // nobody answers
			return nil, nats.ErrNoResponders
		case err != nil:
			return nil, err
		case answer.Server.ID == b.nc.ConnectedServerId():
			return answer.Data.Permissions.Publish, nil
		}
	}
}

// include reports whether a subject is allowed.
func (p grants) include(subject string) bool {
	allowed := len(p.Allow) == 0
	for _, pattern := range p.Allow {
		allowed = allowed || matches(pattern, subject)
	}
	for _, pattern := range p.Deny {
		allowed = allowed && !matches(pattern, subject)
	}
	return allowed
}

// matches reports whether a subject is one of those that a pattern with wildcards stands for.
func matches(pattern, subject string) bool {
	want, have := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range want {
		switch {
		case i == len(have):
			return false
		case token == ">":
			return true
		case token != "*" && token != have[i]:
			return false
		}
	}
	return len(want) == len(have)
}
