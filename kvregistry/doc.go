// Package kvregistry registers services on NATS and finds them.
//
// A service registers with [Registry.Register]. The registration is a key in its tenant's JetStream
// key-value bucket and lives by the process's lease, which heartbeats keep: when the process dies,
// the lease runs out on the server's clock and the registration is removed.
//
// A client looks services up with [Registry.GetService] and [Registry.GetServices]. The first
// look-up of a service starts a watch; after that a look-up is a read of this process's memory,
// which the watch keeps current. While the server is away, look-ups go on answering from the last
// snapshot, and [Snapshot.Age] says how old that is.
//
// [Registry.Lookup] prepares a look-up for callers that choose between instances: by filters, by a
// [Picker] of package pick, and by what became of their calls.
//
// [Registry.WaitFor] waits for instances, [Registry.Events] and [Registry.Snapshots] follow them,
// and a [SnapshotFile] answers a program that starts while NATS is away.
//
// [Registry.Exclusive] lets one process of the tenant hold a name at a time, by the same lease, as
// long as the tenant's bucket is not deleted.
//
// [Connect] makes and returns one default instance for the process, and the package's functions,
// which are those of the plain registry, work on it. The rest is methods of what Connect returns.
// [New] makes independent ones. The nats.Conn stays the caller's. Everything here may be called by
// any number of goroutines.
//
// Packages check, serve and transport, beside this one, have health checks, graceful stops and HTTP
// by service names; bridge joins the processes that still use the plain pub/sub registry. Package
// debug shows over HTTP what a registry knows. Package kvregistrytest gives a user's tests a
// registry on a NATS server of their own.
package kvregistry
