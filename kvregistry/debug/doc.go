// Package debug shows over HTTP what a registry knows, for people who look for a fault.
//
// [Handler] answers with the registry's health, what it observes, what this process has registered
// and what it holds exclusively. With an [Events], which the registry's [kvregistry.OnEvent] fills,
// it shows the last events too:
//
//	var events debug.Events
//	reg, err := kvregistry.New(ctx, nc, kvregistry.OnEvent(events.Add))
//	...
//	http.Handle("/debug/kvregistry", debug.Handler(reg, debug.WithEvents(&events)))
//
// A request reads this process's memory: it asks no server, and starts no watch. Nothing runs
// between two requests.
//
// The page shows names and addresses to all who can reach it, so serve it where metrics are served,
// and not to the public. It leaves out metadata, and the passwords and the queries of URLs.
package debug
