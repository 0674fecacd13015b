// Package natsserver runs a NATS server with JetStream in this process, on a store that it keeps
// from other processes.
package natsserver
