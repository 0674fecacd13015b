// Package figures lists what is measured of a registry. Each way of exporting it reads this list.
package figures

import (
	"strings"

	"github.com/kvregistry/go/kvregistry"
)

// Figure is one thing that is measured.
type Figure struct {
	// Name is the name in OpenTelemetry. Prometheus returns the other one.
	Name string
	// Unit is "s", "By", what is counted in braces, or empty for a figure that is 0 or 1.
	Unit   string
	Help   string
	Total  bool // it only grows while the process lives
	Labels []string
	read   func(*State, Put)
}

// Put takes a value, and the values of the labels in the order of [Figure.Labels]. No two calls
// for one figure have the same labels, and each label is valid UTF-8.
type Put func(value float64, labels ...string)

// Read gives put each value that the figure has in a state: none if it does not apply.
func (f *Figure) Read(s *State, put Put) { f.read(s, put) }

// Prometheus returns the name in Prometheus. OpenTelemetry's exporter for Prometheus makes the same
// of Name, Unit and Total.
func (f *Figure) Prometheus() string {
	name := strings.ReplaceAll(f.Name, ".", "_")
	switch f.Unit {
	case "s":
		name += "_seconds"
	case "By":
		name += "_bytes"
	}
	if f.Total {
		name += "_total"
	}
	return name
}

// All returns the figures, in the order in which they are shown.
func All() []Figure {
	return []Figure{
		{Name: "kvregistry.up", Help: "Whether the connection to NATS is up.",
			read: is(func(h *kvregistry.Health) bool { return h.Connected })},
		{Name: "kvregistry.ok", Help: "Whether nothing is wrong, as Health.OK says.",
			read: is(func(h *kvregistry.Health) bool { return h.OK() })},
		{Name: "kvregistry.ready", Help: "Whether the process can work, as Health.Ready says.",
			read: is(func(h *kvregistry.Health) bool { return h.Ready() })},
		{Name: "kvregistry.refused",
			Help: "Whether the server refuses the bucket, or a registration of this process.",
			read: is(func(h *kvregistry.Health) bool { return h.Refused != nil })},

		{Name: "kvregistry.view.age", Unit: "s",
			Help: "Time since the server last confirmed what look-ups show.", read: age},
		{Name: "kvregistry.view.current",
			Help: "Whether the server confirmed in time what look-ups show.",
			read: is(func(h *kvregistry.Health) bool { return h.Current() })},
		{Name: "kvregistry.view.names", Unit: "{name}",
			Help: "Names that are observed; all services are one name.",
			read: count(func(h *kvregistry.Health) int { return len(h.Observed) })},
		{Name: "kvregistry.view.unread_names", Unit: "{name}",
			Help: "Observed names that were never read.",
			read: count(func(h *kvregistry.Health) int { return len(h.Unread) })},
		{Name: "kvregistry.view.stale_names", Unit: "{name}",
			Help: "Observed names that are answered from the snapshot file.",
			read: count(func(h *kvregistry.Health) int { return len(h.Stale) })},
		{Name: "kvregistry.view.resyncs", Unit: "{resync}", Total: true, Labels: []string{"cause"},
			Help: "How many times the view was recreated after a fault, by cause.", read: resyncs},
		{Name: "kvregistry.view.memory", Unit: "By",
			Help: "Memory that the observed instances take, about.",
			read: count(func(h *kvregistry.Health) int { return h.Memory })},
		{Name: "kvregistry.view.full",
			Help: "Whether instances are left out for want of memory.",
			read: is(func(h *kvregistry.Health) bool { return h.Full })},
		{Name: "kvregistry.events.merged", Unit: "{event}", Total: true,
			Help: "Events that slow readers were told of together with a later one.",
			read: total(func(h *kvregistry.Health) uint64 { return h.Merged })},
		{Name: "kvregistry.records.skipped", Unit: "{record}", Total: true,
			Help: "Records that could not be read, or for which there was no room.",
			read: total(func(h *kvregistry.Health) uint64 { return h.Skipped })},

		{Name: "kvregistry.lease.held",
			Help: "Whether the process holds a lease; absent if it needs none.", read: leaseHeld},
		{Name: "kvregistry.lease.last_renewal_timestamp", Unit: "s",
			Help: "When the last acknowledged heartbeat was sent.", read: renewed},
		{Name: "kvregistry.lease.round_trip", Unit: "s",
			Help: "How long the server took to answer the last acknowledged heartbeat.",
			read: roundTrip},
		{Name: "kvregistry.lease.heartbeats_failed", Unit: "{heartbeat}", Total: true,
			Help: "Heartbeats that failed, or were not answered soon.",
			read: total(func(h *kvregistry.Health) uint64 { return h.Missed })},
		{Name: "kvregistry.lease.losses", Unit: "{lease}", Total: true,
			Help: "Leases that were lost.",
			read: total(func(h *kvregistry.Health) uint64 { return h.Losses })},

		{Name: "kvregistry.registrations", Unit: "{registration}",
			Help: "Instances that this process has registered.",
			read: func(s *State, put Put) { put(float64(s.Registered)) }},
		{Name: "kvregistry.registrations_unwritten", Unit: "{registration}",
			Help: "Registrations that the bucket does not hold as they were declared.",
			read: count(func(h *kvregistry.Health) int { return h.Unwritten })},
		{Name: "kvregistry.registrations_fenced", Unit: "{registration}", Total: true,
			Help: "Registrations that a newer one of the same id took over.",
			read: total(func(h *kvregistry.Health) uint64 { return h.Fenced })},
		{Name: "kvregistry.hold.held", Labels: []string{"name"},
			Help: "Whether the exclusive name is held; 0 while the process waits for it.",
			read: holds},

		{Name: "kvregistry.reaper.slot_held",
			Help: "Whether the process holds one of the two reaper slots of the tenant.",
			read: is(func(h *kvregistry.Health) bool { return h.Reaps })},
		{Name: "kvregistry.reaper.pending_leases", Unit: "{lease}",
			Help: "Leases that ended and still hold registrations, in a process that reaps.",
			read: count(func(h *kvregistry.Health) int { return h.Ended })},
		{Name: "kvregistry.reaper.unreaped_leases", Unit: "{lease}",
			Help: "Leases that ended, and whose registrations nobody removed for two TTLs.",
			read: count(func(h *kvregistry.Health) int { return h.Unreaped })},
		{Name: "kvregistry.reaped", Unit: "{registration}", Total: true,
			Help: "Registrations of dead processes that this one removed.",
			read: total(func(h *kvregistry.Health) uint64 { return h.Reaped })},

		{Name: "kvregistry.services", Unit: "{service}",
			Help: "Services of the tenant that have an instance.",
			read: ofTenant(func(t *tally, put Put) { put(float64(t.services)) })},
		{Name: "kvregistry.instances", Unit: "{instance}", Labels: []string{"service", "status"},
			Help: "Instances of the tenant, by service and status.", read: ofTenant(instances)},
		{Name: "kvregistry.leases", Unit: "{lease}",
			Help: "Leases of the tenant that an instance lives by.",
			read: ofTenant(func(t *tally, put Put) { put(float64(t.leases)) })},
		{Name: "kvregistry.lookup.instance_aside", Labels: []string{"service", "id"},
			Help: "Whether a look-up sets the instance aside, because calls of it failed.",
			read: aside},
	}
}
