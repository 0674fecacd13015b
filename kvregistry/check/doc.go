// Package check sets a service's status by checks that run in the service's own process.
//
// A [Check] is a function that returns an error where something is wrong: one's own with [Of], or [HTTP], [TCP] or a [Heartbeat], which the service's code has to
// touch. Package grpccheck, a module of its own, has one for gRPC health. [Run] runs a service's checks, each in its own time, and the worst of them is the status that callers go by: critical where one fails,
// warning where one fails that [OnlyWarns], passing otherwise. A status that changes is one write; one that does not is none.
//
// What passes and fails by turns is damped: a check counts as failed after it failed [Fall] times in a row, and as passing after [Rise] times. The first result counts at
// once. A check that hangs or panics has failed, and holds up no other.
//
// Checks leave an instance alone that is draining, for somebody decided that. Any other status that was set by hand stays until the next result of a check.
//
// The registry checks nothing from outside: that a process is there at all is what its lease tells, and whether its callers reach it they know best.
package check
