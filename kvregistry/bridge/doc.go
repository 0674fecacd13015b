// Package bridge joins a tenant with the processes that still use the plain pub/sub registry, so
// that a fleet moves to kvregistry one process at a time.
//
// A plain process publishes its services on core NATS, as JSON, under a prefix. It says them again
// every 20 s, and answers questions for them. A [Bridge] listens there. It registers what it hears
// in the tenant, under its own lease, with [Origin] in the metadata. When an instance unregisters
// there, or falls silent, its registration ends here. The bridge says the tenant's own instances
// there, as often as plain processes have to hear them, and answers questions for them.
//
// No bridge takes the messages of a bridge for those of a plain process, so nothing goes round.
// Several bridges of a tenant and prefix share the work: one of them leads, the others listen, and
// take over when it is gone.
//
// The bytes are those of github.com/eddieraa/registry from v0.0.5 on, without its code.
// docs/moving.md tells how to move, and what replaces each call.
package bridge
