package stream

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// User is what a server says of the user of a connection.
type User struct {
	Name, Account string
	Publish       Grants
	Subscribe     Grants
	Expires       time.Duration // until its credentials end; 0 if they do not
	Domains       []string      // JetStream domains of the servers that a leaf node joins, sorted
}

// Grants are the subjects that a user may publish or subscribe to. The zero value is everything.
type Grants struct {
	Allow []string `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"`
}

// AskUser asks the server of a connection for the user. A server on the other side of a leaf node's
// connection answers too, for that connection: AskUser waits for the answer of this server, and
// then for a time for the domains of the others.
func AskUser(ctx context.Context, nc *nats.Conn, others time.Duration) (u User, err error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return User{}, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest(UserInfo, inbox, nil); err != nil {
		return User{}, err
	}
	var domains []string
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return User{}, err
		}
		own, domain, err := u.read(msg, nc.ConnectedServerId())
		switch {
		case err != nil:
			return User{}, err
		case domain != "":
			domains = append(domains, domain)
		}
		if own {
			break
		}
	}
	ctx, cancel := context.WithTimeout(ctx, others)
	defer cancel()
	for others > 0 {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil { // the time is over
			break
		}
		if _, domain, err := new(User).read(msg, ""); err == nil && domain != "" {
			domains = append(domains, domain)
		}
	}
	slices.Sort(domains)
	u.Domains = slices.Compact(domains)
	return u, nil
}

// read takes an answer. own reports whether it is that of the connection's server.
func (u *User) read(msg *nats.Msg, server string) (own bool, domain string, err error) {
	if len(msg.Data) == 0 { // nobody answers
		return false, "", nats.ErrNoResponders
	}
	var answer struct {
		Server struct {
			ID     string `json:"id"`
			Domain string `json:"domain"`
		} `json:"server"`
		Data struct {
			User        string        `json:"user"`
			Account     string        `json:"account"`
			Expires     time.Duration `json:"expires"`
			Permissions struct {
				Publish   Grants `json:"publish"`
				Subscribe Grants `json:"subscribe"`
			} `json:"permissions"`
		} `json:"data"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return false, "", err
	}
	if own = answer.Server.ID == server; own {
		d := answer.Data
		*u = User{Name: d.User, Account: d.Account, Expires: d.Expires,
			Publish: d.Permissions.Publish, Subscribe: d.Permissions.Subscribe}
	}
	return own, answer.Server.Domain, nil
}

// Include reports whether a subject is allowed, or all subjects that a pattern stands for.
func (g Grants) Include(subject string) bool {
	covering := func(pattern string) bool { return covers(pattern, subject) }
	meeting := func(pattern string) bool {
		return covers(pattern, subject) || covers(subject, pattern)
	}
	return (len(g.Allow) == 0 || slices.ContainsFunc(g.Allow, covering)) &&
		!slices.ContainsFunc(g.Deny, meeting)
}

// covers reports whether a pattern with wildcards stands for all that a subject stands for.
func covers(pattern, subject string) bool {
	want, have := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range want {
		switch {
		case i == len(have):
			return false
		case token == ">":
			return true
		case token == "*" && have[i] == ">", token != "*" && token != have[i]:
			return false
		}
	}
	return len(want) == len(have)
}
