package kvregistry

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kvregistry/go/tenant"
)

// LeaseState is what a process's lease is at.
type LeaseState string

// The states of a lease.
const (
	LeaseNone LeaseState = "none" // nothing was registered yet, or the registry is closed
	LeaseHeld LeaseState = "held"
	LeaseGone LeaseState = "gone" // not granted yet, or lost; the registry takes a new one
)

// Health is what a registry knows of itself, at one moment.
type Health struct {
	Connected bool // the connection to NATS is up, as far as NATS knows
	// Err is the first fault of these: NATS is away; the bucket could not be checked; the view
	// can't be read; Refused; nobody reaps.
	Err error
	// Age is the time since the server last confirmed that what look-ups show is current, and -1
	// before it first did.
	Age      time.Duration
	Observed []string // the names that are observed
	Unread   []string // those of them that have no first snapshot yet
	Stale    []string // those of these whose look-ups answer from the SnapshotFile
	Resyncs  uint64   // how many times the view was recreated after a fault
	// Sessions are the Resyncs by cause: "refused", "no bucket", "message lost", "silent",
	// "behind", "reconnected", "disconnected", "keys removed", "recreated", "mirror stale",
	// "no answer", "other".
	Sessions map[string]uint64
	Merged   uint64 // events that slow readers were told of together with a later one

	Lease LeaseState
	// Renewed is when the last acknowledged heartbeat was sent, by this process's clock, and zero
	// before the first.
	Renewed   time.Time
	RoundTrip time.Duration // that this heartbeat took; 0 before the first
	Missed    uint64        // heartbeats that failed, or were not answered soon
	Losses    uint64        // leases that were lost
	Fenced    uint64        // registrations that a newer one of the same id took over
	// Unwritten counts this process's registrations that the bucket does not hold as they were
	// declared.
	Unwritten int
	// Refused is why the server refuses the bucket, or a registration that was never in it. It is
	// nil if the server refuses nothing.
	Refused error

	Holds []HoldHealth // exclusive names, held or waited for, by name and age

	Reaps bool // this process holds one of the tenant's reaper slots
	Ended int  // leases that ended and still hold registrations, if it does
	// Unreaped counts the leases that ended and whose registrations nobody removed for two TTLs,
	// and for at least 6 s: nobody reaps.
	Unreaped int
	Reaped   uint64 // registrations of dead processes that this one removed
	Skipped  uint64 // records that could not be read, or for which there was no room

	Memory int  // bytes that the instances in memory take, about
	Full   bool // some instances are left out, because they do not fit into MaxMemory

	current time.Duration // the age up to which what look-ups show is current
	waits   bool          // for what Ready needs: see observer.waits
}

// OK reports whether nothing is wrong: the connection is up, every observed service was read and
// was confirmed to be current within two heartbeats of the view's consumer and 1.5 s, nothing is
// left out for want of memory, what was registered is in the bucket under a lease, and somebody
// reaps.
//
// OK is for alerts. It is false during each outage of NATS, while look-ups still answer. For the
// readiness check of an orchestrator use [Health.Ready].
func (h Health) OK() bool {
	return h.Connected && h.Err == nil && len(h.Unread) == 0 &&
		h.Current() && h.Lease != LeaseGone && h.Unwritten == 0 && h.Unreaped == 0 && !h.Full
}

// Current reports whether the server confirmed in time that what look-ups show is current: within
// two heartbeats of the view's consumer and 1.5 s. It is true if nothing is observed.
func (h Health) Current() bool {
	return len(h.Observed) == 0 || h.Age >= 0 && h.Age < cmp.Or(h.current, 3*time.Second)
}

// Ready reports whether the process can do its work: the bucket was reached once, look-ups of every
// observed service answer, and the server has not refused the bucket or what this process
// registers. It is for the readiness check of an orchestrator. It is false once the connection is
// closed for good.
//
// Once true, it stays true through an outage of NATS: look-ups answer from memory. A process that
// starts during an outage becomes ready when NATS answers, unless a [SnapshotFile] has what it
// needs. A registration that waits for NATS does not make it false, and neither does a refusal of
// one that was in the bucket before. A name makes it false until it was read once, by this process
// or, with a [SnapshotFile], by the one before. That holds for names that the process observes or
// has a [Lookup] for, and for names that it looked up before NATS was reached. A name that is
// looked up for the first time during a later outage changes nothing.
func (h Health) Ready() bool { return !h.waits && h.Refused == nil }

// MarshalJSON gives the members that docs/reliability.md lists. Their names and types are stable.
func (h Health) MarshalJSON() ([]byte, error) {
	type hold struct {
		Name  string    `json:"name"`
		Token uint64    `json:"token"`
		Since time.Time `json:"since"`
		Ahead int       `json:"ahead"`
	}
	holds := make([]hold, len(h.Holds))
	for i, one := range h.Holds {
		holds[i] = hold(one)
	}
	var age *float64
	if h.Age >= 0 {
		seconds := h.Age.Seconds()
		age = &seconds
	}
	var renewed *time.Time
	if !h.Renewed.IsZero() {
		renewed = &h.Renewed
	}
	sessions := map[string]uint64{} // JSON shows an object, even if it is empty
	maps.Copy(sessions, h.Sessions)
	return json.Marshal(struct {
		OK        bool       `json:"ok"`
		Ready     bool       `json:"ready"`
		Connected bool       `json:"connected"`
		Error     string     `json:"error"`
		Age       *float64   `json:"age_seconds"`
		Observed  []string   `json:"observed"`
		Unread    []string   `json:"unread"`
		Stale     []string   `json:"stale"`
		Resyncs   uint64     `json:"resyncs"`
		Lease     LeaseState `json:"lease"`
		Renewed   *time.Time `json:"renewed"`
		Unwritten int        `json:"unwritten"`
		Refused   string     `json:"refused"`
		Holds     []hold     `json:"holds"`
		Reaps     bool       `json:"reaps"`
		Ended     int        `json:"ended"`
		Unreaped  int        `json:"unreaped"`
		Reaped    uint64     `json:"reaped"`
		Skipped   uint64     `json:"skipped"`
		Memory    int        `json:"memory_bytes"`
		Full      bool       `json:"full"`

		Sessions  map[string]uint64 `json:"sessions"`
		Merged    uint64            `json:"merged"`
		RoundTrip float64           `json:"round_trip_seconds"`
		Missed    uint64            `json:"missed"`
		Losses    uint64            `json:"losses"`
		Fenced    uint64            `json:"fenced"`
	}{
		h.OK(), h.Ready(), h.Connected, errorText(h.Err), age,
		list(h.Observed), list(h.Unread), list(h.Stale), h.Resyncs,
		cmp.Or(h.Lease, LeaseNone), renewed, h.Unwritten, errorText(h.Refused), holds,
		h.Reaps, h.Ended, h.Unreaped, h.Reaped, h.Skipped, h.Memory, h.Full,
		sessions, h.Merged, h.RoundTrip.Seconds(), h.Missed, h.Losses, h.Fenced,
	})
}

// errorText is an error's text; empty if there is none.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// list is a list that JSON shows as one, even if it is empty.
func list(names []string) []string { return append([]string{}, names...) }

// Health is a read of memory: it asks no server.
func (r *Registry) Health() Health {
	h := Health{
		Age: r.age(), Observed: r.cache.names(), Resyncs: r.view.Resyncs(),
		Sessions: r.view.Ends(), Merged: r.cache.merged.Load(),
		Lease: LeaseNone, Renewed: r.keeper.Renewed(), Unwritten: r.own.Unwritten(r.owned.Lease()),
		RoundTrip: r.keeper.RoundTrip(), Missed: r.keeper.Missed(),
		Losses: r.losses.Load(), Fenced: r.fenced.Load(),
		Holds: r.lines.Health(),
		Ended: r.reaper.Waiting(), Unreaped: r.reaper.Unreaped(), Reaped: r.reaper.Reaped(),
		Skipped: r.cache.skipped.Load(),
		Memory:  r.cache.memory(), Full: r.cache.full.Load(),
	}
	h.current = 2*r.opt.heartbeat() + 1500*time.Millisecond
	_, h.Reaps = r.reaper.Slot()
	h.Unread = slices.DeleteFunc(slices.Clone(h.Observed), r.cache.sees)
	h.Stale = r.archive.stale(h.Unread)
	h.waits = r.waits(h.Unread, h.Stale)
	h.Refused = refusalOf(r)
	away := r.bucket.Disconnected()
	h.Connected = away == nil
	h.Err = cmp.Or(away, r.fault(), h.Refused)
	if ready, _ := r.state(); h.Err == nil && !ready {
		h.Err = errUnchecked
	}
	if h.Err == nil && h.Unreaped > 0 {
		h.Err = fmt.Errorf("nobody reaps: %d leases have ended, and what they hold stays: run "+
			"kvregistry reaper, or a process with the role service that is not WithoutReaping",
			h.Unreaped)
	}
	switch {
	case r.closed.Load():
	case r.keeper.Current() != nil:
		h.Lease = LeaseHeld
	case r.keeper.Started():
		h.Lease = LeaseGone
	}
	return h
}

// waits reports whether Ready waits: for the bucket, unless a snapshot file has something; for a
// needed name that cannot be answered; or for ever, on a closed connection.
func (o *observer) waits(unread, stale []string) bool {
	reached, _ := o.state()
	return !reached && !o.archive.knows() || len(o.needed(unread)) > len(o.needed(stale)) ||
		o.opt.nc.IsClosed()
}

// healthTime is the time between two looks at whether all is right.
const healthTime = 500 * time.Millisecond

// refusalOf is why the server refuses the bucket, or a registration that was never in it.
func refusalOf(r *Registry) error {
	ready, failure := r.state()
	if ready {
		failure = nil
	}
	if failure == nil && r.view.Heard().IsZero() {
		failure = r.view.Failure()
	}
	if refuses(failure) {
		return failure
	}
	return r.owned.refusal()
}

// refuses reports whether an error is a refusal that stays until somebody changes something.
func refuses(err error) bool {
	return tenant.Permanent(err) && !errors.Is(err, ErrConnectionClosed)
}
