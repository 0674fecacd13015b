// Package metrics exports what a registry knows of itself to Prometheus.
//
// [New] is a collector for a program that has a Prometheus registry. [Handler] is a whole page for
// a program that has none:
//
//	http.Handle("/metrics", metrics.Handler(reg))
//
// A scrape reads this process's memory: it asks no server and waits for nothing, so it answers
// during an outage too. docs/monitoring lists the metrics, and has alert rules and a dashboard.
//
// Labels have no metadata and no addresses. The number of series is bounded: see [WithInstances],
// [WithLookup] and docs/monitoring.
//
// Package otelmetrics, a module of its own, gives the same figures to OpenTelemetry.
package metrics
