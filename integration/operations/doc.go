// Package operations runs the commands that docs/operations.md shows, each as the role that the
// page lists it for. It is a module of its own, for its tests build the nats command.
package operations
