package kvregistry

import (
	"cmp"
	"slices"
	"time"
)

// LeaseState is what a process's lease is at.
type LeaseState string

// The states of a lease.
const (
	LeaseNone LeaseState = "none" // nothing was registered yet, or the registry is closed
	LeaseHeld LeaseState = "held"
	LeaseGone LeaseState = "gone" // it was not granted yet, or was lost: a new one is taken as soon as it can be had
)

// Health is what a registry knows of itself, at one moment.
type Health struct {
	Connected bool          // the connection to NATS is up, as far as NATS knows
	Err       error         // why the bucket could not be checked yet, or what keeps the view from reading; nil where nothing does
	Age       time.Duration // since the server last confirmed that what look-ups show is current; -1 before it first did
	Observed  []string      // the names that are observed
	Unread    []string      // those of them that have no first snapshot yet
	Stale     []string      // those of these whose look-ups answer from the SnapshotFile
	Resyncs   uint64        // how many times the view was made anew after a fault

	Lease     LeaseState
	Renewed   time.Time // when the last acknowledged heartbeat was sent, by this process's clock; zero before the first
	Unwritten int       // registrations of this process that the bucket does not hold as they were declared

	Holds []HoldHealth // what this process holds exclusively, and what it waits for, by name and age

	Reaps   bool   // this process holds one of the tenant's reaper slots
	Ended   int    // leases that ended and still hold registrations, if it does
	Reaped  uint64 // registrations of dead processes that this one removed
	Skipped uint64 // records that could not be read

	current time.Duration // the age up to which what look-ups show is current
}

// HoldHealth is a name that a process holds exclusively, or a place that it has in the line for one.
type HoldHealth struct {
	Name  string
	Token uint64    // the fencing token; 0 while it waits
	Since time.Time // when its turn came, or, while it waits, when it took its place
}

// OK reports whether nothing is wrong: the connection is up, every observed service was read and
// was confirmed to be current within two heartbeats of the view's consumer and 1.5 s, and what was
// registered is in the bucket under a lease.
func (h Health) OK() bool {
	return h.Connected && h.Err == nil && len(h.Unread) == 0 && (len(h.Observed) == 0 || h.Age < cmp.Or(h.current, 3*time.Second)) &&
		h.Lease != LeaseGone && h.Unwritten == 0
}

// Health is a read of memory: it asks no server.
func (r *Registry) Health() Health {
	h := Health{
		Connected: r.opt.nc.IsConnected(), Err: r.fault(), Age: r.age(), Observed: r.cache.names(), Resyncs: r.view.Resyncs(),
		Lease: LeaseNone, Renewed: r.keeper.Renewed(), Unwritten: r.own.unwritten(r.keeper.Current()), Holds: r.lines.health(),
		Ended: r.reaper.Waiting(), Reaped: r.reaper.Reaped(), Skipped: r.cache.skipped.Load(),
	}
	h.current = 2*r.opt.heartbeat() + 1500*time.Millisecond
	_, h.Reaps = r.reaper.Slot()
	h.Unread = slices.DeleteFunc(slices.Clone(h.Observed), r.cache.sees)
	h.Stale = r.staleNames(h.Unread)
	switch {
	case r.closed.Load():
	case r.keeper.Current() != nil:
		h.Lease = LeaseHeld
	case r.keeper.Started():
		h.Lease = LeaseGone
	}
	return h
}

// healthTime is the time between two looks at whether all is right.
const healthTime = 500 * time.Millisecond

// tellHealth runs OnHealth's functions.
func (r *Registry) tellHealth() {
	t := time.NewTicker(healthTime)
	defer t.Stop()
	for told, was := false, false; ; {
		if h := r.Health(); !told || h.OK() != was {
			told, was = true, h.OK()
			for _, f := range r.opt.onHealth {
				f(h)
			}
		}
		select {
		case <-t.C:
		case <-r.ctx.Done():
			return
		}
	}
}

// fault is why the bucket was not checked, or why the view has no session.
func (r *Registry) fault() error {
	r.state.Lock()
	defer r.state.Unlock()
	if !r.ready {
		return r.failure
	}
	return r.view.Failure()
}

// age is how old the view is; -1 before its first snapshot.
func (r *Registry) age() time.Duration {
	heard := r.view.Heard()
	if heard.IsZero() {
		return -1
	}
	return time.Since(heard)
}
