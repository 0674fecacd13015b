package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
)

// arena is a fleet of servers with workers, for tests of faults.
type arena struct {
	t       testing.TB
	fleet   *fleet
	ttl     time.Duration
	history *history
	rnd     *rand.Rand
	members []*member // the living ones
	tenants map[string]string
	broken  []violation   // violations that the arena itself found
	slowest time.Duration // the longest time until caches equalled the bucket after a fault
	faults  int
	born    int
	idle    map[string]int  // each worker's goroutines when the arena was first settled
	missing map[string]bool // workers that found a registration missing
	asked   bool            // a fault since the last settling is found only by asking
}

// member is a live worker, with one link to each server.
type member struct {
	plan  workerPlan
	proc  *process
	links []*link
}

func newArena(t testing.TB, size int, ttl time.Duration, seed uint64) *arena {
	t.Helper()
	return &arena{
		t: t, fleet: newFleet(t, size), ttl: ttl, history: newHistory(),
		rnd: rand.New(rand.NewPCG(seed, 1)), tenants: map[string]string{}, idle: map[string]int{},
		missing: map[string]bool{},
	}
}

// join starts a worker.
func (a *arena) join(tenant string, own, shared int) *member {
	a.t.Helper()
	a.born++
	m := &member{plan: workerPlan{
		Name: fmt.Sprintf("w%d", a.born), Tenant: tenant, TTL: a.ttl, Seed: a.rnd.Uint64(),
		Own: own, Shared: shared, Pace: 100 * time.Millisecond,
	}}
	var urls []string
	for _, n := range a.fleet.nodes {
		l := newLink(a.t, n.address())
		m.links, urls = append(m.links, l), append(urls, l.URL())
	}
	m.plan.URL = strings.Join(urls, ",")
	a.tenants[m.plan.Name] = tenant
	m.proc = spawn(a.t, "WORKER", m.plan)
	go a.history.record(m.proc) // ends with the process
	if a.history.await(m.plan.Name, saidReady, 0, 30*time.Second) == nil {
		a.t.Fatalf("%s is not ready", m.plan.Name)
	}
	a.members = append(a.members, m)
	return m
}

// leave removes a worker from the list of live ones.
func (a *arena) leave(m *member) {
	a.members = slices.DeleteFunc(a.members, func(other *member) bool { return other == m })
	for _, l := range m.links {
		l.cut()
	}
}

// kill ends a worker like a crash.
func (a *arena) kill(m *member) {
	a.history.add(entry{Who: m.plan.Name, What: saidKilled})
	m.proc.kill()
	a.leave(m)
}

// stop makes a worker close its registry and end.
func (a *arena) stop(m *member) {
	began := time.Now().UnixNano()
	a.history.add(entry{Who: m.plan.Name, What: saidStopped})
	m.proc.tell("close")
	switch said := a.history.await(m.plan.Name, saidClosed, began, 3*natstest.Soon); {
	case said == nil:
		a.broke(7, "%s did not close", m.plan.Name)
	case said.Left != "":
		a.broke(7, "%s closed, and left goroutines:\n%s", m.plan.Name, said.Left)
	}
	m.proc.kill()
	a.leave(m)
}

// one returns a random live worker that registers instances.
func (a *arena) one() *member {
	var list []*member
	for _, m := range a.members {
		if m.plan.Own > 0 {
			list = append(list, m)
		}
	}
	return list[a.rnd.IntN(len(list))]
}

// instanceKey matches the service and the id that a text names.
var instanceKey = regexp.MustCompile(`s\d/[\w-]+`)

// broke records a violation that the arena found.
func (a *arena) broke(invariant int, format string, args ...any) {
	v := violation{invariant: invariant, text: fmt.Sprintf(format, args...)}
	a.history.add(entry{What: "broken"})
	if key := instanceKey.FindString(v.text); key != "" {
		v.stretch = before(a.history.sorted(), key, "")
	}
	a.broken = append(a.broken, v)
}

// end settles a last time, closes everything, and reports the violations of the run.
func (a *arena) end() {
	a.t.Helper()
	a.settle()
	for len(a.members) > 0 {
		a.stop(a.members[0])
	}
	nc := a.fleet.connect()
	// a server of a cluster asks for a consumer's end again after 30 s
	natstest.Eventually(a.t, 90*time.Second, func() error {
		for name := range maps.Values(a.tenants) {
			if left := views(natstest.Consumers(a.t, nc, "KV_registry_"+name)); len(left) > 0 {
				return fmt.Errorf("consumers remain: %s",
					a.describe(nc, "KV_registry_"+name, left))
			}
		}
		return nil
	})
	list := append(a.broken, check(a.ttl, a.tenants, a.history.sorted())...)
	for i, v := range list {
		if i == 10 {
			a.t.Errorf("and %d more", len(list)-i)
			break
		}
		a.t.Error(v.String())
	}
	a.t.Logf("%d entries, %d workers, %d violations; caches equalled the bucket at most %s after "+
		"a fault and the last change",
		len(a.history.sorted()), a.born, len(list), a.slowest.Round(time.Millisecond))
}

// keep writes the history to a file in a folder, if the folder is given.
func (a *arena) keep(folder, name string) {
	if folder == "" {
		return
	}
	var b bytes.Buffer
	for _, e := range a.history.sorted() {
		if err := json.NewEncoder(&b).Encode(e); err != nil {
			a.t.Error(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, name), b.Bytes(), 0o644); err != nil {
		a.t.Error(err)
	}
}

// describe returns what the server says of consumers.
func (a *arena) describe(nc *nats.Conn, stream string, names []string) string {
	var b strings.Builder
	for _, name := range names {
		msg, err := nc.Request("$JS.API.CONSUMER.INFO."+stream+"."+name, nil, time.Second)
		if err != nil {
			fmt.Fprintf(&b, "\n%s: %v", name, err)
			continue
		}
		fmt.Fprintf(&b, "\n%s: %s", name, msg.Data)
	}
	return b.String()
}

// populate starts the workers of a run: three in tenant red that register, one there that only
// observes, and one in tenant blue.
func (a *arena) populate() {
	a.t.Helper()
	for range 3 {
		a.join("red", 5, 3)
	}
	a.join("red", 0, 0)
	a.join("blue", 5, 0)
}
