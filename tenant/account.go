package tenant

import (
	"encoding/json"
	"fmt"
	"strings"
)

// AccountLimits are what a tenant's account may take of a server or cluster. All are needed.
type AccountLimits struct {
	MaxBytes    int64 // of the bucket, on each replica
	Replicas    int   // of the bucket: the server counts every one
	Connections int   // of all users together; their consumers are bounded by it too
}

// What every tenant's account is limited to.
const (
	memory        = 0       // bytes of streams in memory. The state of consumers is not counted, wherever it is
	consumersEach = 4       // consumers of a process at the most: its two views' and the ones before
	ackPending    = 100     // messages that a consumer may leave unacknowledged; those of a view are never acknowledged
	subsEach      = 1000    // subscriptions of a connection; a registry has a handful
	maxPayload    = 1 << 20 // bytes of a message
)

func (l AccountLimits) check(tenant string) error {
	if _, err := BucketName(tenant); err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	if err := (Config{Replicas: l.Replicas, MaxBytes: l.MaxBytes}).validate(); err != nil {
		return err
	}
	if l.MaxBytes == 0 || l.Replicas == 0 || l.Connections <= 0 || l.Connections > 1<<30 {
		return fmt.Errorf("tenant: %w: %+v; an account needs all of its limits", ErrInvalidConfig, l)
	}
	return nil
}

func (l AccountLimits) storage() int64   { return l.MaxBytes * int64(l.Replicas) }
func (l AccountLimits) consumers() int64 { return consumersEach*int64(l.Connections) + 2*Slots }

// AccountConfig is a NATS account for one tenant alone, as the text of an entry of "accounts" in a nats-server's configuration file: its
// JetStream may hold the tenant's bucket and no other stream, and no leaf node may join it. users are entries of
// its "users", as [User] gives them, "user: NAME, password: PASSWORD", "user: NAME" or "nkey:
// PUBLIC KEY". A password goes to the end of its line and is taken as it stands, but for quotes
// around it. Each user may do anything in the account; add a line feed and [Access.Config] to an
// entry for a role. The error wraps [ErrInvalidTenant] or [ErrInvalidConfig].
func AccountConfig(tenant string, limits AccountLimits, users ...string) (string, error) {
	if err := limits.check(tenant); err != nil {
		return "", err
	}
	entries := make([]string, 0, len(users))
	for _, u := range users {
		e, err := entry(u)
		if err != nil {
			return "", err
		}
		entries = append(entries, e)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: {\n  limits: { max_connections: %d, max_leafnodes: 0, max_subscriptions: %d, max_payload: %d }\n", tenant, limits.Connections, subsEach, maxPayload)
	fmt.Fprintf(&b, "  jetstream: { max_mem: %d, max_file: %d, max_streams: 1, max_consumers: %d, max_ack_pending: %d }\n  users: [\n", memory, limits.storage(), limits.consumers(), ackPending)
	for _, e := range entries {
		fmt.Fprintf(&b, "    { %s }\n", e)
	}
	b.WriteString("  ]\n}\n")
	return b.String(), nil
}

// AccountClaims is the same as the "limits" within an account's JWT, in its "nats" object. An account that an operator signs with them imports and exports nothing. Errors are
// those of [AccountConfig].
func AccountClaims(tenant string, limits AccountLimits) ([]byte, error) {
	if err := limits.check(tenant); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"conn": limits.Connections, "leaf": 0, "subs": subsEach, "payload": maxPayload, "data": -1, "imports": 0, "exports": 0,
		"mem_storage": memory, "disk_storage": limits.storage(), "streams": 1, "consumer": limits.consumers(), "max_ack_pending": ackPending,
	})
}
