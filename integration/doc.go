// Package integration holds the tests of the whole library against real servers: one in the test's process,
// or three in a cluster. Services that are killed or frozen are processes of their own. Each test names the
// invariant of docs/design.md that it holds, and says how the code was broken once to see it fail.
package integration
