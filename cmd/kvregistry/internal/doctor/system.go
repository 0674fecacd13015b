package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/tenant/operator"
)

const (
	systemTime  = 2 * time.Second        // bounds the first answer to a question to all servers
	systemPause = 300 * time.Millisecond // after which no other server answers
	recent      = 5 * time.Minute        // closed connections that count
	closedMost  = 1000                   // of each server
)

// system is what the servers say of themselves to the system account.
type system struct {
	servers []server.Varz
	closed  []closedConn // of the tenant's account, of late
}

// closedConn is a connection of a client that ended.
type closedConn struct{ server, client, reason string }

// askSystem asks all servers by a connection of the system account.
func askSystem(ctx context.Context, nc *nats.Conn, user operator.Identity) (s system, err error) {
	if nc == nil {
		return system{}, errNoSystem
	}
	varz, err := ask[server.ServerAPIVarzResponse](ctx, nc, "VARZ", nil)
	if err != nil {
		return system{}, err
	}
	for _, one := range varz {
		if one.Data != nil {
			s.servers = append(s.servers, *one.Data)
		}
	}
	connz, err := ask[server.ServerAPIConnzResponse](ctx, nc, "CONNZ", server.ConnzOptions{
		State: server.ConnClosed, Limit: closedMost, Account: user.Account, Sort: server.ByStop,
	})
	if err != nil {
		return system{}, err
	}
	for _, one := range connz {
		if one.Data == nil {
			continue
		}
		for _, c := range one.Data.Conns {
			if c.Stop != nil && one.Data.Now.Sub(*c.Stop) < recent {
				s.closed = append(s.closed, closedConn{one.Server.Name, c.Name, c.Reason})
			}
		}
	}
	return s, nil
}

// ask asks each server, and returns the answers. It waits until no other comes.
func ask[T any](
	ctx context.Context, nc *nats.Conn, what string, options any,
) (list []T, err error) {
	body, err := json.Marshal(options)
	if err != nil {
		return nil, err
	}
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest("$SYS.REQ.SERVER.PING."+what, inbox, body); err != nil {
		return nil, err
	}
	for wait := systemTime; ctx.Err() == nil; wait = systemPause {
		msg, err := sub.NextMsg(wait)
		switch {
		case errors.Is(err, nats.ErrTimeout) && len(list) > 0:
			return list, nil
		case errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoResponders):
			return nil, errNotSystem
		case err != nil:
			return nil, fmt.Errorf("the system account: %w", err)
		}
		var one T
		if err := json.Unmarshal(msg.Data, &one); err != nil {
			return nil, fmt.Errorf("the system account: %w", err)
		}
		list = append(list, one)
	}
	return nil, ctx.Err()
}
