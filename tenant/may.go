package tenant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/tenant/internal/stream"
)

// askTime bounds the wait for a user's permissions.
const askTime = time.Second

// MayWrite returns an error that wraps [ErrPermission] if this user may not write a key. It asks
// the server, except if the server refused a write of the same kind of key on this connection,
// less than 10 minutes ago. It returns nil if the server does not say.
func (b *Bucket) MayWrite(ctx context.Context, key string) error {
	if what := kind(key); !b.isRefused(what) {
		if b.may(ctx, b.target(key)) {
			return nil
		}
		b.remember(what)
	}
	return fmt.Errorf("%w: this user may not write %s", ErrPermission, key)
}

// may reports whether this user may publish to a subject, as far as the server says.
func (b *Bucket) may(ctx context.Context, subject string) bool {
	if b.isRefused(permissions) {
		return true
	}
	ctx, cancel := b.try(ctx, askTime, stream.UserInfo)
	defer cancel()
	publish, err := b.askGrants(ctx)
	if errors.Is(context.Cause(ctx), ErrPermission) {
		b.remember(permissions)
	}
	return err != nil || publish == nil || publish.include(subject)
}

// grants lists the subjects that are allowed and those that are not.
type grants struct {
	Allow []string `json:"allow"`
	Deny  []string `json:"deny"`
}

// askGrants returns what this user may publish, nil if that is everything. A leaf node's server
// answers the request too, for the connection between the two servers. askGrants waits for the
// answer of this connection's server.
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
	matching := func(pattern string) bool { return matches(pattern, subject) }
	return (len(p.Allow) == 0 || slices.ContainsFunc(p.Allow, matching)) &&
		!slices.ContainsFunc(p.Deny, matching)
}

// matches reports whether a pattern with wildcards stands for a subject.
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
