// Package inside gives this module's tests, and kvregistrytest, what a registry does not give its
// users.
package inside

import (
	"context"

	"github.com/kvregistry/go/lease"
)

// Package kvregistry sets these. Each takes a *kvregistry.Registry.
var (
	// Lease returns the lease that a registry holds, or nil.
	Lease func(registry any) *lease.Lease
	// Crash ends a registry as the death of its process would, and then purges what a reaper would.
	Crash func(ctx context.Context, registry any) error
)
