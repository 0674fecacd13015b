package operator

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kvregistry/go/tenant"
)

// AccountLimits are what a tenant's account may take of a server or cluster. Each is needed.
type AccountLimits struct {
	MaxBytes    int64 // of the bucket, on each replica; 1 to 1<<60
	Replicas    int   // of the bucket: 1, 3 or 5; the server counts every one
	Connections int   // of all users together; the limit of consumers follows from it; 1 to 1<<30
}

// The limits of every tenant's account.
const (
	memory        = 0       // bytes of streams in memory; the state of consumers is not counted
	consumersEach = 4       // consumers of a process: those of two views, and those they replace
	ackPending    = 100     // unacknowledged messages of a consumer; a view acknowledges none
	subsEach      = 1000    // subscriptions of a connection; a registry has a handful
	maxPayload    = 1 << 20 // bytes of a message
)

func (l AccountLimits) check(name string) error {
	if _, err := tenant.BucketName(name); err != nil {
		return fmt.Errorf("operator: %w", err)
	}
	if n := l.Replicas; n != 1 && n != 3 && n != 5 {
		return fmt.Errorf("operator: %w: %d replicas; use 1, 3 or 5", tenant.ErrInvalidConfig, n)
	}
	if l.MaxBytes <= 0 || l.MaxBytes > 1<<60 {
		return fmt.Errorf("operator: %w: max bytes is %d; use 1 to 1<<60",
			tenant.ErrInvalidConfig, l.MaxBytes)
	}
	if l.Connections <= 0 || l.Connections > 1<<30 {
		return fmt.Errorf("operator: %w: connections is %d; use 1 to 1<<30",
			tenant.ErrInvalidConfig, l.Connections)
	}
	return nil
}

func (l AccountLimits) storage() int64 { return l.MaxBytes * int64(l.Replicas) }

func (l AccountLimits) consumers() int64 {
	return consumersEach*int64(l.Connections) + 2*tenant.Slots
}

// AccountConfig returns a NATS account for one tenant alone, as the text of an entry of "accounts"
// in a nats-server's configuration file. Its JetStream may hold the tenant's bucket and no other
// stream, and no leaf node may join it.
//
// users are entries of its "users": what [User] returns, "user: NAME, password: PASSWORD", or
// "nkey: PUBLIC KEY". A password ends with its line. It is taken as it stands, without quotes
// around it. An empty name or password is refused. "certificate: NAME" is a user without a
// password: any client may log in by that name unless the server maps client certificates to
// users (verify_and_map). Each user may do anything in the account; for a role, add a line feed
// and [Access.Config] to the entry. The error wraps [tenant.ErrInvalidTenant] or
// [tenant.ErrInvalidConfig].
func AccountConfig(name string, limits AccountLimits, users ...string) (string, error) {
	if err := limits.check(name); err != nil {
		return "", err
	}
	var entries []string
	for _, u := range users {
		e, err := entry(u)
		if err != nil {
			return "", err
		}
		entries = append(entries, "{ "+e+" }")
	}
	return limits.account(name, entries), nil
}

// account is the text of an account with these entries of "users".
func (l AccountLimits) account(name string, users []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: {\n", name)
	fmt.Fprintf(&b, "  limits: { max_connections: %d, max_leafnodes: 0, max_subscriptions: %d, "+
		"max_payload: %d }\n",
		l.Connections, subsEach, maxPayload)
	fmt.Fprintf(&b, "  jetstream: { max_mem: %d, max_file: %d, max_streams: 1, max_consumers: "+
		"%d, max_ack_pending: %d }\n",
		memory, l.storage(), l.consumers(), ackPending)
	b.WriteString("  users: [\n")
	for _, u := range users {
		fmt.Fprintf(&b, "    %s\n", u)
	}
	b.WriteString("  ]\n}\n")
	return b.String()
}

// AccountClaims returns the limits of [AccountConfig] as the "limits" within an account's JWT, in
// its "nats" object. An account with them imports and exports nothing. Errors are those of
// [AccountConfig].
func AccountClaims(name string, limits AccountLimits) ([]byte, error) {
	if err := limits.check(name); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"conn": limits.Connections, "leaf": 0, "subs": subsEach, "payload": maxPayload, "data": -1,
		"imports": 0, "exports": 0, "mem_storage": memory, "disk_storage": limits.storage(),
		"streams": 1, "consumer": limits.consumers(), "max_ack_pending": ackPending,
	})
}
