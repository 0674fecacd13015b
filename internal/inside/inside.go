// Package inside shows the tests of this module what a registry does not tell its users.
package inside

import "github.com/kvregistry/go/lease"

// Lease returns the lease that a *kvregistry.Registry holds, or nil. Package kvregistry sets it.
var Lease func(registry any) *lease.Lease
