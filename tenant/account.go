package tenant

import (
	"fmt"
	"strings"
)

// AccountLimits are what a tenant's account may take of a server or cluster. All are needed.
type AccountLimits struct {
	MaxBytes    int64 // of the bucket, on each replica
	Replicas    int   // of the bucket: the server counts every one
	Connections int   // of all users together; their consumers are bounded by it too
}

// AccountConfig is a NATS account for one tenant alone, as the text of an entry of "accounts" in a nats-server's configuration file: its
// JetStream may hold the tenant's bucket and no other stream. users are entries of
// its "users", as "user: web, password: …", each of which may do anything in the account; add [Access.Config] to one for a role.
// The error wraps [ErrInvalidTenant] or [ErrInvalidConfig].
func AccountConfig(tenant string, limits AccountLimits, users ...string) (string, error) {
	if _, err := BucketName(tenant); err != nil {
		return "", fmt.Errorf("tenant: %w", err)
	}
	cfg := Config{Replicas: limits.Replicas, MaxBytes: limits.MaxBytes}
	if err := cfg.validate(); err != nil {
		return "", err
	}
	if limits.MaxBytes == 0 || limits.Replicas == 0 || limits.Connections <= 0 || limits.Connections > 1<<30 {
		return "", fmt.Errorf("tenant: %w: %+v; an account needs all of its limits", ErrInvalidConfig, limits)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: {\n  limits: { max_connections: %d }\n  jetstream: { max_mem: %d, max_file: %d, max_streams: 1, max_consumers: %d }\n  users: [\n",
		tenant, limits.Connections, viewMemory, limits.MaxBytes*int64(limits.Replicas), consumersEach*limits.Connections+1)
	for _, u := range users {
		fmt.Fprintf(&b, "    { %s }\n", strings.ReplaceAll(strings.TrimSpace(u), "\n", "\n    "))
	}
	b.WriteString("  ]\n}\n")
	return b.String(), nil
}

// consumersEach is how many consumers a process has at the most: its view's, the one before, and those of a scan. The reapers' queue is one more.
const consumersEach = 4

// viewMemory is what an account's consumers may take of the server's memory for their state, of which a view's has little.
const viewMemory = 64 << 20
