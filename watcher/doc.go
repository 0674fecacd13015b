// Package watcher keeps a view of a set of keys of a bucket, which is current whatever happens to
// the server, the connection or the bucket.
//
// A [View] has one consumer on the server, however many filters it watches. Each time that the
// consumer is replaced (the connection came back, the server was silent, a message was lost, the
// bucket was recreated) the view first reads a whole snapshot, compares it with what it held, and
// passes on only what differs. So a reader sees ordinary changes, in order, and nothing twice.
// Nothing of a snapshot is passed on before the snapshot is complete. If a filter is added, the
// consumer is updated, and a second consumer reads what is there.
//
// It knows keys, bytes and revisions, and nothing of services, leases or JetStream. It does not
// keep values.
package watcher
