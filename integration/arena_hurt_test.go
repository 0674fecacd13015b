package integration

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// fault is one way to hurt an arena. begin starts the fault and returns the function that ends it,
// or nil if the fault is over at once.
type fault struct {
	name    string
	servers int  // 1 or 3: the number of servers that it applies to; 0 for both
	whom    bool // it hurts one worker alone, which may lose its lease
	hand    bool // it writes or removes keys without the library
	long    bool // it is also injected for longer than a TTL
	asked   bool // a view notices it only when it next asks the leader, once a TTL
	begin   func(a *arena, m *member) (heal func())
}

// inject starts faults, no two on the same worker, holds them for a time, and ends them.
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
		time.Sleep(hold) // the faults last so long
	}
	for _, heal := range heals {
		heal()
	}
	if slices.ContainsFunc(fs, func(f fault) bool { return f.asked }) {
		time.Sleep(a.ttl + 2*time.Second)
	}
	// a cluster is hurt until it can make consumers and its nodes have caught up
	if len(a.fleet.nodes) > 1 {
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

// begin starts a fault, on a worker if it hurts one. It returns the entry for the history and the
// function that ends the fault.
func (a *arena) begin(f fault, m *member, hold time.Duration) (said entry, heal func()) {
	a.faults++
	a.asked = a.asked || f.asked
	said = entry{What: saidFault, ID: fmt.Sprintf("%s, %s", f.name, hold.Round(time.Millisecond)),
		By: "servers"}
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

// downed kills a node, and returns a function that starts it and waits until it is current.
func (a *arena) downed(n *node) func() {
	if n == nil {
		return nil
	}
	n.kill()
	return n.up
}

// follower returns a node that does not lead the bucket's stream.
func (a *arena) follower() *node {
	leader := a.fleet.leader(bucketStream)
	for {
		if n := a.fleet.nodes[a.rnd.IntN(len(a.fleet.nodes))]; n != leader {
			return n
		}
	}
}

// each hurts every link of a worker, and returns the function that heals the links.
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

// eachKey does something to three random registrations.
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
