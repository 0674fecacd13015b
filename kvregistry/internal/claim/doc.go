// Package claim keeps the keys of a bucket at what a process declares.
//
// Calls declare: each registration has a stack of layers, and the top layer is what it declares. An
// empty stack means that the registration was taken back. One loop ([Owner.Run]) alone writes the
// difference between what is declared and what is known of the keys. A call waits until the loop
// has settled its layer.
//
// The package knows keys, revisions and leases. What a registration says is an opaque T, which a
// [Registry] encodes, and reads back as a [Sight].
//
//	Declare, Change, End --> layers --> loop --> round: date, compose, send, resolve, settle
//	                                     ^                                            |
//	See (what a view saw) ---------------+--------------------------------------------+
package claim
