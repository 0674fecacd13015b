// Package inside gives this module's tests, kvregistrytest and the command what package kvregistry
// does not give its users.
package inside

import (
	"context"

	"github.com/kvregistry/go/lease"
)

// Package kvregistry sets these. registry is a *kvregistry.Registry.
var (
	// Lease returns the lease that a registry holds, or nil.
	Lease func(registry any) *lease.Lease
	// Crash ends a registry as the death of its process would, and then purges what a reaper would.
	Crash func(ctx context.Context, registry any) error
	// Record reads the value of a registration's key as any registry does, whatever its length is.
	// service is a kvregistry.Service. newer reports whether the record is of a higher format.
	Record func(key string, value []byte, revision uint64) (service any, newer bool, err error)
)
