// Package operations runs the commands that docs/operations.md shows, each as the role that the
// page lists it for, and what docs/monitoring has, with Prometheus. It is a module of its own,
// for its tests build the nats command.
package operations
