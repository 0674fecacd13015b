// Package operator does what an operator does with tenants.
//
// It makes, changes, lists and deletes their buckets ([Provision], [Change], [List], [Remove],
// [MakeMirror]). It says what a user of a tenant may publish and subscribe to ([Permissions]) and
// what an account for one tenant is limited to ([AccountConfig]), as text for a server's
// configuration file or for a JWT. A [Server] has both in a whole configuration. It asks how a
// tenant stands, for a program that looks for faults ([Inspect], [Consumers], [Identify]).
//
// A program that registers or observes services does not need it. Errors wrap those of package
// tenant.
package operator
