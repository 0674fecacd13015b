// Package cli is what the commands of kvregistry share: how they read options, connect, print and
// fail.
//
// A command is a package beside this one, which exports a function Command. It gives its options to
// a [Login] or a [Target] and to an [Output], and returns an error that says how it failed: see
// [Usagef] and [Nonef]. [Run] runs the tree of commands and makes the exit code.
package cli
