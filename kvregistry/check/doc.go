// Package check sets a service's status by checks that run in the service's own process.
//
// A [Check] is a function that returns an error if something is wrong. Make one with [Of], [HTTP],
// [TCP] or a [Heartbeat], which the service's code has to touch. Package grpccheck, a module of its
// own, checks gRPC health. [Run] runs the checks of a service, each in its own time. The worst of
// them is the status of the service: critical if one fails, warning if one with [OnlyWarns] fails,
// passing otherwise. Only a change of the status is written.
//
// A check that alternates is damped: it counts as failed after [Fall] failures in a row, and as
// passing after [Rise] passes in a row. The first result counts at once. A check that hangs or
// panics has failed, and delays no other check.
//
// Checks do not change an instance that is draining. Any other status that was set by hand stays
// until the next result of a check.
//
// The registry checks nothing from outside. The lease says whether the process lives, and callers
// know best whether they reach it.
package check
