package tenant

import (
	"fmt"
	"strings"
)

// AccountConfig is a NATS account for one tenant alone, as the text of an entry of "accounts" in a nats-server's configuration file: its
// JetStream may hold the tenant's bucket, of maxBytes at the most on each replica, and no other stream. users are entries of
// its "users", as "user: web, password: …", each of which may do anything in the account; add [Access.Config] to one for a role.
// The error wraps [ErrInvalidTenant] or [ErrInvalidConfig].
func AccountConfig(tenant string, maxBytes int64, replicas int, users ...string) (string, error) {
	if _, err := BucketName(tenant); err != nil {
		return "", fmt.Errorf("tenant: %w", err)
	}
	cfg := Config{Replicas: replicas, MaxBytes: maxBytes}
	if err := cfg.validate(); err != nil {
		return "", err
	}
	if maxBytes == 0 || replicas == 0 {
		return "", fmt.Errorf("tenant: %w: an account needs a limit of bytes and its number of replicas: the server counts every replica", ErrInvalidConfig)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: {\n  jetstream: { max_mem: %d, max_file: %d, max_streams: 1 }\n  users: [\n", tenant, viewMemory, maxBytes*int64(replicas))
	for _, u := range users {
		fmt.Fprintf(&b, "    { %s }\n", strings.ReplaceAll(strings.TrimSpace(u), "\n", "\n    "))
	}
	b.WriteString("  ]\n}\n")
	return b.String(), nil
}

// viewMemory is what an account's consumers may take of the server's memory for their state, of which a view's has little.
const viewMemory = 64 << 20
