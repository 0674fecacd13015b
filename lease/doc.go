// Package lease keeps what a process's registrations live by, and removes what a dead process left.
//
// A [Keeper] holds one lease at a time: a key with a time to live on the server's clock, renewed by
// compare-and-swap at a third of that time. When the lease is lost the keeper says so and takes a
// new one, under a new id. Ids are never used twice, so the end of a lease is final.
//
// A [Reaper] takes one of the bucket's two reaper slots if one is free. While it holds a slot it
// follows the whole bucket in stream order with an index in memory of which keys live by which
// lease. When a lease ends it purges what the lease still holds, each key at its known revision.
// Its own renewals of the slot come back to it through the stream: that is its proof that living
// processes could renew.
//
// The package knows keys and bytes. Its caller tells it which lease a value names. It knows nothing
// of services.
package lease
