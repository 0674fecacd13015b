// Package page serves a live view of a tenant to a browser.
//
// [Handler] answers with one embedded page and with what the page asks for: a stream of the catalog
// as server-sent events, and JSON for the rest. Nothing comes from another host, and nothing is
// built before it is served.
//
// The page reads. Only with [Config.Drain] and [Config.Deregister] does it change something.
package page
