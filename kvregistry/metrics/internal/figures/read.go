package figures

import (
	"github.com/kvregistry/go/kvregistry"
)

// is reads a figure that is 0 or 1.
func is(of func(*kvregistry.Health) bool) func(*State, Put) {
	return func(s *State, put Put) { put(truth(of(&s.Health))) }
}

// count reads a figure that is a number of things.
func count(of func(*kvregistry.Health) int) func(*State, Put) {
	return func(s *State, put Put) { put(float64(of(&s.Health))) }
}

// total reads a figure that was counted since the start.
func total(of func(*kvregistry.Health) uint64) func(*State, Put) {
	return func(s *State, put Put) { put(float64(of(&s.Health))) }
}

// ofTenant reads a figure of the whole tenant, if that was read.
func ofTenant(read func(*tally, Put)) func(*State, Put) {
	return func(s *State, put Put) {
		if s.tenant != nil {
			read(s.tenant, put)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// age has no value before the server first confirmed the view.
func age(s *State, put Put) {
	if s.Health.Age >= 0 {
		put(s.Health.Age.Seconds())
	}
}

// causes are those of [kvregistry.Health.Sessions]. A counter that is absent until it first counts
// hides its first increase from rate(), so each is there from the start.
var causes = []string{"refused", "no bucket", "message lost", "silent", "behind", "reconnected",
	"disconnected", "keys removed", "recreated", "mirror stale", "no answer", "other"}

func resyncs(s *State, put Put) {
	for _, cause := range causes {
		put(float64(s.Health.Sessions[cause]), cause)
	}
}

// leaseHeld has no value in a process that needs no lease.
func leaseHeld(s *State, put Put) {
	if s.Health.Lease != kvregistry.LeaseNone {
		put(truth(s.Health.Lease == kvregistry.LeaseHeld))
	}
}

// renewed has no value before the first heartbeat, and neither has roundTrip.
func renewed(s *State, put Put) {
	if at := s.Health.Renewed; !at.IsZero() {
		put(float64(at.UnixMilli()) / 1000)
	}
}

func roundTrip(s *State, put Put) {
	if s.Health.RoundTrip > 0 {
		put(s.Health.RoundTrip.Seconds())
	}
}

// holds shows each name once: a process may hold it and wait for it too.
func holds(s *State, put Put) {
	held := map[string]bool{}
	for _, h := range s.Health.Holds {
		name := label(h.Name)
		if _, known := held[name]; known || len(held) < MostHolds {
			held[name] = held[name] || h.Token != 0
		}
	}
	for name, is := range held {
		put(truth(is), name)
	}
}

// statuses are those of an instance. Each has a value for each service, so that a query finds the
// services of which none is passing.
var statuses = []kvregistry.Status{kvregistry.Passing, kvregistry.Warning, kvregistry.Critical,
	kvregistry.Draining}

func instances(t *tally, put Put) {
	for service, by := range t.instances {
		for _, status := range statuses {
			put(float64(by[status]), service, string(status))
		}
	}
}

func aside(s *State, put Put) {
	for at, is := range s.aside {
		put(truth(is), at.service, at.id)
	}
}
