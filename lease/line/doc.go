// Package line lets one process of a tenant hold a name at a time.
//
// Processes that want a name stand in its line: each writes a ticket, a key that is written once
// and lives by the process's lease. The ticket's revision is its place, and the lowest place holds
// the name. A view of its own shows each line. The package knows tickets, leases and the bucket,
// and nothing of registrations.
//
// The first ticket of a line stays the first, however late the view is: later tickets have higher
// revisions, and a view that shows a ticket has shown each one before it, or that it has left.
//
// docs/exclusive.md says what a hold promises. docs/decisions has the alternatives.
package line
