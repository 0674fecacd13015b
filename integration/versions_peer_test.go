package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// mix is a tenant whose processes are of two versions.
type mix struct {
	t      *testing.T
	server *natstest.Server
	peers  []*peer  // the living
	dying  []string // the ids for which lose waits

	mu    sync.Mutex                 // guards what follows, and each peer's told
	gone  map[string]kvregistry.Kind // by id: how the instances of a process have to go
	wrong []string                   // events that must not happen
	lost  int                        // the number of leases that live processes lost
}

// join starts a process and returns when it has registered its instances.
func (m *mix) join(program, id string, flags ...string) *peer {
	m.t.Helper()
	args := append([]string{"-url", m.server.URL(), "-ttl", ttl.String(), "-observe"}, flags...)
	args = append(args, instances(id)...)
	p := &peer{
		process: begin(m.t, exec.Command(program, args...)),
		id:      id,
		lists:   make(chan []string, 1),
		ended:   make(chan struct{}),
		told:    map[string][]kvregistry.Kind{},
	}
	p.await("ready", natstest.Soon)
	go m.listen(p) // ends with the process
	m.peers = append(m.peers, p)
	return p
}

// listen reads what a process prints until it ends.
func (m *mix) listen(p *peer) {
	defer close(p.ended)
	for line := range p.lines {
		var said struct {
			Kind             kvregistry.Kind
			Service, ID, Err string
			List             []string
		}
		switch err := json.Unmarshal([]byte(line), &said); {
		case line == "closed":
			p.closed = true
		case err != nil || said.Err != "":
			m.broke("%s said %s", p.id, line)
		case said.Kind == "":
			p.lists <- said.List
		default:
			m.tell(p, said.Kind, said.ID, said.Service+"/"+said.ID)
		}
	}
}

// tell records an event that a process was told.
func (m *mix) tell(p *peer, kind kvregistry.Kind, id, instance string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch _, gone := m.gone[id]; {
	case kind == kvregistry.LeaseLost:
		m.lost++
	case kind == kvregistry.Registered || kind == kvregistry.Updated:
		// gather waits for new instances.
	case !gone || kind == kvregistry.Fenced:
		m.wrong = append(m.wrong,
			fmt.Sprintf("%s was told that %s is %s, and it lives", p.id, instance, kind))
	default:
		p.told[instance] = append(p.told[instance], kind)
	}
}

// broke records what must not happen.
func (m *mix) broke(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrong = append(m.wrong, fmt.Sprintf(format, args...))
}

// conclude reports what must not have happened.
func (m *mix) conclude() {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, wrong := range m.wrong {
		m.t.Error(wrong)
	}
	m.t.Logf("the living lost %d leases", m.lost)
}

// kill ends processes like a crash.
func (m *mix) kill(peers ...*peer) {
	for _, p := range peers {
		m.leave(p, kvregistry.Expired)
		p.kill()
	}
}

// stop makes processes close their registries.
func (m *mix) stop(peers ...*peer) {
	m.t.Helper()
	for _, p := range peers {
		m.leave(p, kvregistry.Unregistered)
		_ = p.stdin.Close()
		select {
		case <-p.ended:
		case <-time.After(natstest.Soon):
			m.t.Fatalf("%s did not stop", p.id)
		}
		if !p.closed {
			m.t.Errorf("%s ended without closing its registry", p.id)
		}
		p.kill()
	}
}

// leave removes a process from the live ones, before its instances may go.
func (m *mix) leave(p *peer, how kvregistry.Kind) {
	m.peers = slices.DeleteFunc(m.peers, func(other *peer) bool { return other == p })
	m.dying = append(m.dying, p.id)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone[p.id] = how
}

// look compares each live process's cache with the instances of the live processes. lacking names
// the missing instances, beyond the additional ones.
func (m *mix) look() (lacking, beyond error) {
	m.t.Helper()
	var want []string
	for _, p := range m.peers {
		want = append(want, instances(p.id)...)
	}
	for _, p := range m.peers {
		got := p.list()
		for _, instance := range want {
			if !slices.Contains(got, instance) {
				lacking = errors.Join(lacking, fmt.Errorf("%s has no %s, which is live", p.id,
					instance))
			}
		}
		for _, instance := range got {
			if !slices.Contains(want, instance) {
				beyond = errors.Join(beyond, fmt.Errorf("%s has %s, which is gone", p.id, instance))
			}
		}
	}
	return lacking, beyond
}

// gather waits until every cache shows exactly the live instances.
func (m *mix) gather() {
	m.t.Helper()
	natstest.Eventually(m.t, natstest.Soon, func() error { return errors.Join(m.look()) })
}

// lose waits until the instances of ended processes are in no cache and every process was told of
// them. Live instances must stay meanwhile.
func (m *mix) lose(who string) {
	m.t.Helper()
	took := natstest.Eventually(m.t, removal, func() error {
		lacking, beyond := m.look()
		if lacking != nil {
			m.t.Fatal(lacking)
		}
		if beyond == nil {
			beyond = m.untold()
		}
		return beyond
	})
	m.dying = nil
	m.t.Logf("%s was out of every cache after %s, TTL %s", who, took.Round(time.Millisecond), ttl)
}

// untold returns an error unless each process was told once, and correctly, how the instances went
// that lose waits for.
func (m *mix) untold() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.peers {
		for _, id := range m.dying {
			for _, instance := range instances(id) {
				told, want := p.told[instance], []kvregistry.Kind{m.gone[id]}
				if !slices.Equal(told, want) {
					return fmt.Errorf("%s was told of %s: %v, want %v", p.id, instance, told, want)
				}
			}
		}
	}
	return nil
}

// keep fails the test unless every cache shows exactly the live instances for a time.
func (m *mix) keep(d time.Duration) {
	m.t.Helper()
	m.during(d, func() error { return errors.Join(m.look()) })
}

// endure fails the test unless every cache shows the live instances for a time. Dead ones may be
// there too.
func (m *mix) endure(d time.Duration) {
	m.t.Helper()
	m.during(d, func() error { lacking, _ := m.look(); return lacking })
}

// during fails the test if a check fails within a time.
func (m *mix) during(d time.Duration, check func() error) {
	m.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := check(); err != nil {
			m.t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // between two checks
	}
}

// peer is a process that registers instances of its own id and observes the whole tenant.
type peer struct {
	*process
	id     string
	lists  chan []string                // answers to the command list
	ended  chan struct{}                // closed when all that it printed has been read
	closed bool                         // it closed its registry; read it after ended is closed
	told   map[string][]kvregistry.Kind // by instance: how this peer was told that it went
}

// list asks a process for the instances in its cache.
func (p *peer) list() []string {
	p.t.Helper()
	p.tell("list")
	select {
	case list := <-p.lists:
		return list
	case <-p.ended:
		p.t.Fatalf("%s ended", p.id)
	case <-time.After(natstest.Soon):
		p.t.Fatalf("%s did not answer", p.id)
	}
	return nil
}

// instances returns the keys that look shows for the instances of an id.
func instances(id string) []string { return []string{"api/" + id, "web/" + id} }
