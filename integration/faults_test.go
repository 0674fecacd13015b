package integration

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
)

// fault is one way to hurt an arena. Its begin does it and returns what ends it, nil where it is over at once.
type fault struct {
	name    string
	servers int  // 1 or 3: where it applies; 0 on both
	whom    bool // it hurts one worker alone, which may lose its lease by it
	hand    bool // it writes or removes keys behind the library's back
	long    bool // it is tried for longer than a TTL too
	asked   bool // it is silent: a view finds out when it next asks the leader, once a TTL
	begin   func(a *arena, m *member) (heal func())
}

const bucketStream = "KV_registry_red"

var faults = []fault{
	// Servers.
	{name: "server killed", servers: 1, long: true, begin: func(a *arena, _ *member) func() {
		a.fleet.nodes[0].kill()
		return a.fleet.nodes[0].up
	}},
	{name: "server shut down", servers: 1, long: true, begin: func(a *arena, _ *member) func() {
		a.fleet.nodes[0].stop("stop")
		return a.fleet.nodes[0].up
	}},
	{name: "server in lame duck mode", servers: 1, begin: func(a *arena, _ *member) func() {
		a.fleet.nodes[0].stop("lameduck")
		return a.fleet.nodes[0].up
	}},
	{name: "server frozen", servers: 1, long: true, begin: func(a *arena, _ *member) func() {
		a.fleet.nodes[0].freeze()
		return a.fleet.nodes[0].thaw
	}},
	{name: "stream leader killed", servers: 3, long: true, begin: func(a *arena, _ *member) func() {
		return a.downed(a.fleet.leader(bucketStream))
	}},
	{name: "stream leader frozen", servers: 3, long: true, begin: func(a *arena, _ *member) func() {
		n := a.fleet.leader(bucketStream)
		if n == nil {
			return nil
		}
		n.freeze()
		return n.thaw
	}},
	{name: "stream leader moved", servers: 3, begin: func(a *arena, _ *member) func() {
		if err := a.fleet.stepDown(bucketStream); err != nil {
			a.t.Log("step-down:", err)
		}
		return nil
	}},
	{name: "follower killed", servers: 3, long: true, begin: func(a *arena, _ *member) func() {
		return a.downed(a.follower())
	}},
	{name: "node back with an empty store", servers: 3, begin: func(a *arena, _ *member) func() {
		n := a.follower()
		up := a.downed(n)
		n.wipe()
		return up
	}},
	{name: "stream leader cut off from the other nodes", servers: 3, long: true, begin: func(a *arena, _ *member) func() {
		n := a.fleet.leader(bucketStream)
		if n == nil {
			return nil
		}
		return hurtLinks(n.links, (*link).cut)
	}},
	{name: "stream leader black-holed from the other nodes", servers: 3, long: true, begin: func(a *arena, _ *member) func() {
		n := a.fleet.leader(bucketStream)
		if n == nil {
			return nil
		}
		return hurtLinks(n.links, func(l *link) { l.blackhole(up, down) })
	}},
	{name: "follower cut off from the other nodes", servers: 3, long: true, begin: func(a *arena, _ *member) func() {
		return hurtLinks(a.follower().links, (*link).cut)
	}},
	{name: "nodes slow to each other", servers: 3, begin: func(a *arena, _ *member) func() {
		return hurtLinks(a.fleet.nodes[0].links, func(l *link) { l.delay(100) })
	}},
	{name: "quorum lost", servers: 3, long: true, begin: func(a *arena, _ *member) func() {
		first, second := a.downed(a.fleet.nodes[0]), a.downed(a.fleet.nodes[1])
		return func() { a.fleet.nodes[0].start(); second(); _ = first }
	}},
	{name: "whole cluster restarted", servers: 3, begin: func(a *arena, _ *member) func() {
		for _, n := range a.fleet.nodes {
			n.kill()
		}
		return func() {
			for _, n := range a.fleet.nodes {
				n.start()
			}
			for _, n := range a.fleet.nodes {
				n.proc.await("ready", 30*time.Second)
			}
		}
	}},
	// Connections.
	{name: "connection cut", whom: true, long: true, begin: func(a *arena, m *member) func() {
		return m.each((*link).cut)
	}},
	{name: "connection black-holed", whom: true, long: true, begin: func(a *arena, m *member) func() {
		return m.each(func(l *link) { l.blackhole(up, down) })
	}},
	{name: "connection dead towards the server", whom: true, long: true, begin: func(a *arena, m *member) func() {
		return m.each(func(l *link) { l.blackhole(up) })
	}},
	{name: "connection dead from the server", whom: true, long: true, begin: func(a *arena, m *member) func() {
		return m.each(func(l *link) { l.blackhole(down) })
	}},
	{name: "connection slow", whom: true, begin: func(a *arena, m *member) func() {
		return m.each(func(l *link) { l.delay(100) })
	}},
	{name: "connection closed slowly", whom: true, begin: func(a *arena, m *member) func() {
		heal := m.each(func(l *link) { l.slowClose(500) })
		for _, l := range m.links {
			l.cut()
		}
		return heal
	}},
	{name: "connection made anew ten times", begin: func(a *arena, m *member) func() {
		for range 10 {
			m.each((*link).renew)()
		}
		return nil
	}},
	// Workers.
	{name: "worker frozen", whom: true, long: true, begin: func(a *arena, m *member) func() {
		m.proc.freeze()
		return m.proc.thaw
	}},
	{name: "worker killed", begin: func(a *arena, m *member) func() {
		a.kill(m)
		a.join(m.plan.Tenant, m.plan.Own, m.plan.Shared)
		return nil
	}},
	{name: "worker stopped", begin: func(a *arena, m *member) func() {
		a.stop(m)
		a.join(m.plan.Tenant, m.plan.Own, m.plan.Shared)
		return nil
	}},
	// What an operator does by hand.
	{name: "views' consumers deleted", begin: func(a *arena, _ *member) func() {
		a.deleteConsumers("view-")
		return nil
	}},
	{name: "reapers' consumers deleted", begin: func(a *arena, _ *member) func() {
		a.deleteConsumers("reaper-")
		return nil
	}},
	{name: "bucket deleted", hand: true, begin: func(a *arena, _ *member) func() {
		a.byHand(func(ctx context.Context, js jetstream.JetStream) error { return js.DeleteKeyValue(ctx, "registry_red") })
		return nil
	}},
	{name: "bucket purged", hand: true, asked: true, begin: func(a *arena, _ *member) func() {
		a.byHand(func(ctx context.Context, js jetstream.JetStream) error {
			s, err := js.Stream(ctx, bucketStream)
			if err != nil {
				return err
			}
			return s.Purge(ctx)
		})
		return nil
	}},
	{name: "registrations deleted", hand: true, begin: func(a *arena, _ *member) func() {
		a.eachKey(func(ctx context.Context, kv jetstream.KeyValue, key string) error { return kv.Delete(ctx, key) })
		return nil
	}},
	{name: "registrations purged", hand: true, begin: func(a *arena, _ *member) func() {
		a.eachKey(func(ctx context.Context, kv jetstream.KeyValue, key string) error { return kv.Purge(ctx, key) })
		return nil
	}},
	{name: "registrations overwritten", hand: true, begin: func(a *arena, _ *member) func() {
		a.eachKey(func(ctx context.Context, kv jetstream.KeyValue, key string) error {
			_, err := kv.Put(ctx, key, []byte("\x00 no record {"))
			return err
		})
		return nil
	}},
}

// downed kills a node, and returns what has it up again and current.
func (a *arena) downed(n *node) func() {
	if n == nil {
		return nil
	}
	n.kill()
	return n.up
}

// follower is a node that does not lead the bucket's stream.
func (a *arena) follower() *node {
	leader := a.fleet.leader(bucketStream)
	for {
		if n := a.fleet.nodes[a.rnd.IntN(len(a.fleet.nodes))]; n != leader {
			return n
		}
	}
}

// each hurts every link of a worker, and returns what heals them.
func (m *member) each(hurt func(*link)) (heal func()) { return hurtLinks(m.links, hurt) }

func hurtLinks(links []*link, hurt func(*link)) (heal func()) {
	for _, l := range links {
		hurt(l)
	}
	return func() {
		for _, l := range links {
			l.heal()
		}
	}
}

func (a *arena) byHand(do func(context.Context, jetstream.JetStream) error) {
	a.t.Helper()
	nc := a.fleet.connect()
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := do(ctx, js); err != nil {
		a.t.Log("by hand:", err)
	}
}

func (a *arena) deleteConsumers(prefix string) {
	a.byHand(func(ctx context.Context, js jetstream.JetStream) error {
		s, err := js.Stream(ctx, bucketStream)
		if err != nil {
			return err
		}
		list := s.ConsumerNames(ctx)
		for name := range list.Name() {
			if len(name) >= len(prefix) && name[:len(prefix)] == prefix {
				if err := js.DeleteConsumer(ctx, bucketStream, name); err != nil {
					a.t.Log("by hand:", err)
				}
			}
		}
		return list.Err()
	})
}

// eachKey does something to three registrations, by chance.
func (a *arena) eachKey(do func(context.Context, jetstream.KeyValue, string) error) {
	a.byHand(func(ctx context.Context, js jetstream.JetStream) error {
		kv, err := js.KeyValue(ctx, "registry_red")
		if err != nil {
			return err
		}
		list, err := kv.ListKeysFiltered(ctx, "svc.>")
		if err != nil {
			return err
		}
		var keys []string
		for key := range list.Keys() {
			keys = append(keys, key)
		}
		for range min(3, len(keys)) {
			if err := do(ctx, kv, keys[a.rnd.IntN(len(keys))]); err != nil {
				return err
			}
		}
		return nil
	})
}

// inject does faults, one upon the other and no two to the same worker, holds them for a time, and ends them.
func (a *arena) inject(hold time.Duration, fs ...fault) {
	a.t.Helper()
	var begun []entry
	var heals []func()
	var hurt []*member
	for _, f := range fs {
		m := a.one()
		for slices.Contains(hurt, m) {
			m = a.one()
		}
		hurt = append(hurt, m)
		said, heal := a.begin(f, m, hold)
		begun = append(begun, said)
		if heal != nil {
			heals = append(heals, heal)
		}
	}
	if heals != nil {
		time.Sleep(hold) // the faults themselves
	}
	for _, heal := range heals {
		heal()
	}
	if slices.ContainsFunc(fs, func(f fault) bool { return f.asked }) {
		time.Sleep(a.ttl + 2*time.Second)
	}
	if len(a.fleet.nodes) > 1 { // it is hurt until it can make consumers and its nodes have caught up
		a.fleet.awaitJetStream()
		for name := range a.bucketsOf() {
			a.fleet.awaitReplicas("KV_registry_" + name)
		}
	}
	for _, said := range begun {
		said.What, said.At = saidHealed, 0
		a.history.add(said)
	}
}

// begin does a fault, to a worker where it is one of a worker, and returns what is said of it and what ends it.
func (a *arena) begin(f fault, m *member, hold time.Duration) (said entry, heal func()) {
	a.faults++
	said = entry{What: saidFault, ID: fmt.Sprintf("%s, %s", f.name, hold.Round(time.Millisecond)), By: "servers"}
	if f.whom {
		said.By = m.plan.Name
	}
	if f.hand {
		a.history.add(entry{What: saidMeddled, ID: f.name})
		if f.name == "bucket deleted" {
			a.history.add(entry{What: saidReset})
		}
	}
	a.history.add(said)
	return said, f.begin(a, m)
}

// populate is what each run begins with: two tenants, the first with three workers that register and one that looks on.
func (a *arena) populate() {
	a.t.Helper()
	for range 3 {
		a.join("red", 5, 3)
	}
	a.join("red", 0, 0)
	a.join("blue", 5, 0)
}

// Each fault alone, for shorter and for longer than a TTL, on one server and on three: afterwards
// the bucket holds what the living declared, every cache equals it, and nothing in the history
// breaks an invariant. The long tier adds to the cluster's faults those that last, and those that
// are no cluster's.
func TestFaults(t *testing.T) {
	t.Parallel()
	one, three := faultsOf(1, true), faultsOf(3, natstest.IsLong())
	const parts = 3 // that run at once
	for i := range parts {
		t.Run(fmt.Sprintf("one server, part %d", i+1), func(t *testing.T) {
			t.Parallel()
			eachFault(t, 1, part(one, i, parts))
		})
		t.Run(fmt.Sprintf("three servers, part %d", i+1), func(t *testing.T) {
			t.Parallel()
			eachFault(t, 3, part(three, i, parts))
		})
	}
}

// faultsOf are the faults of so many servers, with those of any number if all is set.
func faultsOf(size int, all bool) (list []fault) {
	for _, f := range faults {
		if f.servers == size || f.servers == 0 && all {
			list = append(list, f)
		}
	}
	return list
}

// part is the i-th of n parts of a list, which deal it out among them.
func part[T any](list []T, i, n int) (dealt []T) {
	for ; i < len(list); i += n {
		dealt = append(dealt, list[i])
	}
	return dealt
}

// eachFault hurts an arena of its own by one fault after the other.
func eachFault(t *testing.T, size int, list []fault) {
	t.Helper()
	a := newArena(t, size, arenaTTL(size), 1)
	a.populate()
	a.settle()
	for _, f := range list {
		t.Run(f.name, func(t *testing.T) {
			holds := []time.Duration{a.ttl / 3}
			if f.long && (size == 1 || f.servers == size && natstest.IsLong()) {
				holds = append(holds, a.ttl+a.ttl/2)
			}
			for _, hold := range holds {
				before := len(a.broken)
				a.inject(hold, f)
				time.Sleep(a.ttl / 4) // changes go on for a while
				a.settle()
				for _, v := range a.broken[before:] {
					t.Error(hold, v.String())
				}
			}
		})
	}
	a.end()
}

// arenaTTL is the shortest lease with which the living are to be safe: a cluster takes a moment to find a new leader.
func arenaTTL(size int) time.Duration {
	if size > 1 {
		return 4 * time.Second
	}
	return ttl
}
