// Package serve runs an http.Server as a registered service, and stops it without a failed request.
//
// [HTTP] listens, registers, and serves until the process is told to stop. Then it drains, shuts
// down and unregisters, in this order. It ties [kvregistry.Registry.Drain] to a signal and to
// http.Server's Shutdown. Any other server can be tied to its own Shutdown in the same few lines.
package serve
