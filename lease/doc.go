// Package lease keeps what a process's registrations live by, and removes what a dead process left.
//
// A [Keeper] holds one lease at a time: a key with a time to live on the server's clock, renewed by
// compare-and-swap at a third of that time. When the lease is lost the keeper says so and takes a new
// one, under a new id: ids are never used twice, so the end of a lease is final.
//
// A [Reaper] takes the markers that the server writes when leases run out from a queue that all reapers
// of the bucket share, and purges what still names those leases, each key at the revision that was read.
// A sweep, by one reaper at a time, makes up for markers that nobody took.
//
// The package knows keys and bytes. Which lease a value names is told to it, and it knows nothing of
// services or of views.
package lease
