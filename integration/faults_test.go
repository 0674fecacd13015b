package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
)

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
	{name: "stream leader cut off from the other nodes", servers: 3, long: true,
		begin: func(a *arena, _ *member) func() {
			n := a.fleet.leader(bucketStream)
			if n == nil {
				return nil
			}
			return hurtLinks(n.links, (*link).cut)
		}},
	{name: "stream leader black-holed from the other nodes", servers: 3, long: true,
		begin: func(a *arena, _ *member) func() {
			n := a.fleet.leader(bucketStream)
			if n == nil {
				return nil
			}
			return hurtLinks(n.links, func(l *link) { l.blackhole(up, down) })
		}},
	{name: "follower cut off from the other nodes", servers: 3, long: true,
		begin: func(a *arena, _ *member) func() {
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
	{name: "connection black-holed", whom: true, long: true,
		begin: func(a *arena, m *member) func() {
			return m.each(func(l *link) { l.blackhole(up, down) })
		}},
	{name: "connection dead towards the server", whom: true, long: true,
		begin: func(a *arena, m *member) func() {
			return m.each(func(l *link) { l.blackhole(up) })
		}},
	{name: "connection dead from the server", whom: true, long: true,
		begin: func(a *arena, m *member) func() {
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
	// Changes by hand, like an operator's.
	{name: "views' consumers deleted", begin: func(a *arena, _ *member) func() {
		a.deleteConsumers("view-")
		return nil
	}},
	{name: "reapers' consumers deleted", begin: func(a *arena, _ *member) func() {
		a.deleteConsumers("reaper-")
		return nil
	}},
	{name: "bucket deleted", hand: true, begin: func(a *arena, _ *member) func() {
		a.byHand(func(ctx context.Context,
			js jetstream.JetStream) error {
			return js.DeleteKeyValue(ctx, "registry_red")
		})
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
		a.eachKey(func(ctx context.Context, kv jetstream.KeyValue,
			key string) error {
			return kv.Delete(ctx, key)
		})
		return nil
	}},
	{name: "registrations purged", hand: true, begin: func(a *arena, _ *member) func() {
		a.eachKey(func(ctx context.Context, kv jetstream.KeyValue,
			key string) error {
			return kv.Purge(ctx, key)
		})
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

// TestFaults injects each fault alone, for shorter and for longer than a TTL, on one server and on
// three. Afterwards the bucket holds what live workers declared, every cache equals it, and the
// history breaks no invariant. The long tier adds, on the cluster, the lasting faults and those
// that are not specific to a cluster.
func TestFaults(t *testing.T) {
	t.Parallel()
	one, three := faultsOf(1, true), faultsOf(3, natstest.IsLong())
	const parts = 3 // parts run at once
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

// faultsOf returns the faults for a number of servers, with those for any number if all is set.
func faultsOf(size int, all bool) (list []fault) {
	for _, f := range faults {
		if f.servers == size || f.servers == 0 && all {
			list = append(list, f)
		}
	}
	return list
}

// part returns the i-th of n parts of a list, dealt out in turn.
func part[T any](list []T, i, n int) (dealt []T) {
	for ; i < len(list); i += n {
		dealt = append(dealt, list[i])
	}
	return dealt
}

// eachFault injects one fault after the other into an arena of its own.
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

// arenaTTL returns the shortest TTL with which live instances have to be safe. A cluster takes a
// moment to find a new leader.
func arenaTTL(size int) time.Duration {
	if size > 1 {
		return 4 * time.Second
	}
	return ttl
}
