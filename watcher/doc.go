// Package watcher keeps a view of a set of keys of a bucket, current through whatever happens to the
// server, the connection or the bucket.
//
// A [View] has one consumer on the server, however many filters it watches. Each time that it is
// made anew (the connection back, silence, a gap, a bucket deleted and made again) the view first
// reads a whole snapshot, compares it with what it held, and passes on only what differs; so a
// reader sees ordinary changes, in order, and nothing twice. For a filter more the consumer is
// updated, and a second one reads what is there. Nothing of a snapshot is passed on before it is
// complete.
//
// It knows keys, bytes and revisions, and nothing of services or leases. It does not keep values.
package watcher
