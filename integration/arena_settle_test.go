package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
)

// settle makes the workers pause, and waits until the bucket holds what they declared and each
// cache equals it. Then they go on.
func (a *arena) settle() {
	a.t.Helper()
	began := time.Now().UnixNano()
	for _, m := range a.members {
		m.proc.tell("pause")
	}
	for _, m := range a.members {
		if a.history.await(m.plan.Name, saidPaused, began, natstest.Soon) == nil {
			a.broke(4, "%s did not pause", m.plan.Name)
		}
	}
	a.converge()
	for _, m := range a.members {
		m.proc.tell("resume")
	}
}

// converge waits until caches equal the bucket, and the bucket what live workers declared. Caches
// have 2 s from the last fault's end and the connections' return. The bucket has the time that
// reapers take after an outage.
func (a *arena) converge() {
	began := time.Now()
	var wrong error
	late := false
	for time.Since(began) < 2*max(a.ttl, 3*time.Second)+natstest.Soon {
		asked := time.Now() // a worker may have answered long before the last one did
		held, err := a.readAll()
		if wrong = err; err != nil {
			continue
		}
		states := a.states()
		if wrong = a.stands(held); wrong != nil {
			continue
		}
		caches, declared, err := a.compare(states, held)
		if wrong = errors.Join(caches, declared, err); err != nil {
			continue
		}
		if caches == nil {
			if took := time.Since(began); took > a.slowest {
				a.slowest = took
			}
			if declared == nil {
				a.history.add(entry{What: saidSettled})
				a.bounded(states)
				return
			}
		}
		if caches != nil && asked.Sub(began) > 2*time.Second {
			if since := a.lastChange(began.UnixNano()); asked.Sub(time.Unix(0,
				since)) > 2*time.Second {
				if !late {
					a.broke(4, "a cache does not equal the bucket after %s: %v", time.Since(began),
						caches)
				}
				late = true
			}
		}
		time.Sleep(20 * time.Millisecond) // between two checks
	}
	a.broke(4, "after %s: %v", time.Since(began).Round(time.Millisecond), wrong)
}

// deeds lists how log lines about changes by workers begin. They depend on no fault.
var deeds = []string{"a newer registration", "registered:", "unregistered:", "status changed:",
	"draining:"}

// bounded checks invariant 7: a worker's goroutines and log lines do not grow with the number of
// faults. A change of state may log a line or two.
func (a *arena) bounded(states map[string]*state) {
	for who, s := range states {
		if _, known := a.idle[who]; !known {
			a.idle[who] = s.Goroutines
		}
		if s.Goroutines > a.idle[who]+10 {
			a.broke(7, "%s has %d goroutines, and had %d", who, s.Goroutines, a.idle[who])
		}
		lines := 0
		for message, n := range s.Log {
			if !slices.ContainsFunc(deeds,
				func(deed string) bool { return strings.HasPrefix(message, deed) }) {
				lines += n
			}
			// a replica may be behind for so long
			if strings.HasPrefix(message, "a registration was found to be missing") &&
				len(a.fleet.nodes) == 1 && !a.missing[who] {
				a.missing[who] = true
				if !a.asked { // otherwise nothing may tell of a key whose value never came
					a.broke(4, "%s missed what became of a registration, and found it by "+
						"looking; its health: %s, its log: %v", who, s.Health, s.Log)
				}
			}
		}
		if lines > 20+10*a.faults {
			a.broke(7, "%s logged %d lines through %d faults: %v", who, lines, a.faults, s.Log)
		}
	}
	a.asked = false
}

// lastChange returns when the bucket last changed, as far as any worker saw, or when a connection
// came back. Caches follow that.
func (a *arena) lastChange(at int64) int64 {
	for _, e := range a.history.sorted() {
		if strings.HasPrefix(e.What, saidEvent) || e.What == saidConnected {
			at = max(at, e.At)
		}
	}
	return at
}

// states asks the live workers for their present states.
func (a *arena) states() map[string]*state {
	states := map[string]*state{}
	began := time.Now().UnixNano()
	for _, m := range a.members {
		m.proc.tell("state")
	}
	for _, m := range a.members {
		if e := a.history.await(m.plan.Name, saidState, began, natstest.Soon); e != nil {
			states[m.plan.Name] = e.State
		}
	}
	return states
}

// stands returns an error if a bucket holds something other than before. A registration may be
// written again while workers are asked.
func (a *arena) stands(before map[string]map[string]seenInstance) error {
	now, err := a.readAll()
	if err == nil && !maps.EqualFunc(before, now, maps.Equal) {
		err = errors.New("a bucket is changing")
	}
	return err
}

// compare returns how a cache differs from its tenant's bucket, and how the bucket differs from the
// declared registrations. err says why it can't tell.
func (a *arena) compare(states map[string]*state,
	buckets map[string]map[string]seenInstance) (caches, declared, err error) {
	for _, name := range slices.Sorted(maps.Keys(buckets)) {
		held := buckets[name]
		want := map[string][]string{} // the workers that declare each key, with the value
		for _, m := range a.members {
			s := states[m.plan.Name]
			if m.plan.Tenant != name {
				continue
			}
			if s == nil {
				return nil, nil, fmt.Errorf("%s does not answer", m.plan.Name)
			}
			shown := a.withoutTheDead(held, s.Seen)
			if caches == nil && !maps.Equal(s.Seen, shown) {
				caches = fmt.Errorf("%s: %s; its health: %s", m.plan.Name,
					difference(s.Seen, shown), s.Health)
			}
			for key, value := range s.Declared {
				want[key] = append(want[key], fmt.Sprintf("%s %d", m.plan.Name, value))
			}
		}
		for key := range mergedKeys(want, held) {
			if i, ok := held[key]; len(want[key]) != 1 || !ok ||
				want[key][0] != fmt.Sprintf("%s %d", i.By, i.Value) {
				declared = fmt.Errorf("%s: the bucket has %v (%v), declared by %v%s", key, i, ok,
					want[key], a.owners(key, states))
			}
		}
	}
	return caches, declared, nil
}

// withoutTheDead returns what a bucket holds without what dead workers left in it and a cache does
// not show: a newcomer hides what is to be reaped.
func (a *arena) withoutTheDead(held, seen map[string]seenInstance) map[string]seenInstance {
	shown := maps.Clone(held)
	maps.DeleteFunc(shown, func(key string, i seenInstance) bool {
		_, in := seen[key]
		return !in && !slices.ContainsFunc(a.members, func(m *member) bool {
			return m.plan.Name == i.By
		})
	})
	return shown
}

// owners returns what the workers that declare a key know of it.
func (a *arena) owners(key string, states map[string]*state) string {
	var b strings.Builder
	for _, m := range a.members {
		if s := states[m.plan.Name]; s != nil && mergedKeys(s.Declared, s.Held)[key] {
			fmt.Fprintf(&b, "; %s holds it at revision %d, its health: %s, its log: %v",
				m.plan.Name, s.Held[key], s.Health, s.Log)
		}
	}
	return b.String()
}

func difference(seen, held map[string]seenInstance) string {
	for key := range mergedKeys(seen, held) {
		s, in := seen[key]
		if h, there := held[key]; s != h {
			return fmt.Sprintf("%s is %v (%v) in the cache, and %v (%v) in the bucket", key, s, in,
				h, there)
		}
	}
	return ""
}

func (a *arena) bucketsOf() map[string]bool {
	names := map[string]bool{}
	for _, m := range a.members {
		names[m.plan.Tenant] = true
	}
	return names
}

// readAll reads every tenant's registrations.
func (a *arena) readAll() (map[string]map[string]seenInstance, error) {
	all := map[string]map[string]seenInstance{}
	for name := range a.bucketsOf() {
		held, err := a.read(name)
		if err != nil {
			return nil, err
		}
		all[name] = held
	}
	return all, nil
}

// read reads a tenant's registrations without the library.
func (a *arena) read(name string) (map[string]seenInstance, error) {
	nc := a.fleet.connect()
	defer nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	kv, err := js.KeyValue(ctx, "registry_"+name)
	if err != nil {
		return nil, err
	}
	w, err := kv.Watch(ctx, "svc.>", jetstream.IgnoreDeletes())
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Stop() }()
	held := map[string]seenInstance{}
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case e := <-w.Updates():
			if e == nil {
				return held, nil
			}
			var doc struct {
				Lease    string
				Instance struct{ Metadata map[string]string }
			}
			service, id, ok := tenant.ParseServiceKey(e.Key())
			if ok && json.Unmarshal(e.Value(), &doc) == nil && doc.Lease != "" {
				md := doc.Instance.Metadata
				held[service+"/"+id] = seenInstance{e.Revision(), md["by"], number(md["value"])}
			}
		}
	}
}
