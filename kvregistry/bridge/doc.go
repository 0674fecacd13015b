// Package bridge joins a tenant with the processes that still use the plain pub/sub registry, so that a fleet moves to kvregistry one process at a time.
//
// A plain process publishes its services on core NATS, as JSON, under a prefix, says them again every 20 s, and answers whoever asks. A [Bridge] listens
// there. What it hears it registers in the tenant, under its own lease, with [Origin] in the metadata; what unregisters there, or falls silent, goes here. What is
// registered in the tenant, and is not from a bridge, it says there, as often as plain processes have to hear it, and answers their questions for it.
//
// What one bridge says no bridge takes for a plain process's, so nothing goes round. Several bridges of a tenant and prefix share the work:
// one of them leads, the others listen, and take over when it is gone.
//
// The bytes are those of github.com/eddieraa/registry from v0.0.5 on, without its code. docs/moving.md tells how to move and what each call becomes.
package bridge
