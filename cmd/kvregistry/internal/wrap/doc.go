// Package wrap has the commands that register or hold something for a program that knows nothing of
// the registry: [Run], [Register] and [Lock].
//
// Package supervise runs the program, package check its checks. docs/run.md is the page for users.
package wrap
