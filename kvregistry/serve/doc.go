// Package serve runs an http.Server as a registered service, from the moment it listens to a stop that fails no request.
//
// [HTTP] listens, registers, serves until the process is told to stop, and then drains, shuts down and unregisters, in this order. It is [kvregistry.Registry.Drain] tied to a
// signal and to http.Server's Shutdown; other servers tie it to theirs in the same few lines.
package serve
