package bridge_test

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// plainService is an instance of the plain registry, with the names of its JSON.
type plainService struct {
	Network string            `json:"net,omitempty"`
	Address string            `json:"add,omitempty"`
	URL     string            `json:"url,omitempty"`
	Name    string            `json:"name,omitempty"`
	Version string            `json:"v,omitempty"`
	Host    string            `json:"h,omitempty"`
	KV      map[string]string `json:"kv,omitempty"`
}

// pong is the message that says that an instance is there.
type pong struct {
	plainService
	Timestamps *timestamps `json:"t,omitempty"`
	Status     string      `json:"status,omitempty"`
	due        time.Time
}

type timestamps struct {
	Registered int64
	Duration   int
}

// plainProcess is a process that uses the plain registry. It speaks its subjects and bytes, and
// keeps its cache as that does: by name and address, with the first content that it heard, and by
// the sender's clock.
type plainProcess struct {
	t      testing.TB
	nc     *nats.Conn
	prefix string
	every  time.Duration
	host   string // the one whose services it observes; all if it is empty

	mu     sync.Mutex // guards what follows
	mine   map[string]*pong
	cache  map[string]*pong
	events []string // what its observer was told
	subs   []*nats.Subscription
	end    chan struct{}
	ended  sync.WaitGroup
}

// startPlain runs a plain process until the test ends.
func startPlain(t testing.TB, nc *nats.Conn, prefix string, every time.Duration) *plainProcess {
	p := &plainProcess{t: t, nc: nc, prefix: prefix, every: every, mine: map[string]*pong{},
		cache: map[string]*pong{}, end: make(chan struct{})}
	p.ended.Go(p.run)
	t.Cleanup(p.crash)
	return p
}

func (p *plainProcess) run() {
	again, check := time.NewTicker(p.every), time.NewTicker(20*time.Millisecond)
	defer again.Stop()
	defer check.Stop()
	for {
		select {
		case <-p.end:
			return
		case <-again.C:
			p.mu.Lock()
			for _, one := range p.mine {
				p.say(one)
			}
			p.mu.Unlock()
		case now := <-check.C:
			p.mu.Lock()
			maps.DeleteFunc(p.cache, func(_ string, one *pong) bool { return now.After(one.due) })
			p.mu.Unlock()
		}
	}
}

func (p *plainProcess) publish(verb, name string, data []byte) {
	if err := p.nc.Publish(p.prefix+"."+verb+"."+name, data); err != nil {
		p.t.Log(err)
	}
}

// say publishes a service of the process. The caller holds p.mu.
func (p *plainProcess) say(one *pong) {
	one.Timestamps = &timestamps{time.Now().UnixMilli(), int(p.every.Milliseconds())}
	data, err := json.Marshal(one)
	if err != nil {
		p.t.Error(err)
	}
	p.publish("register", one.Name, data)
}

func (p *plainProcess) subscribe(verb, name string, f func([]byte)) {
	sub, err := p.nc.Subscribe(p.prefix+"."+verb+"."+name, func(m *nats.Msg) {
		p.mu.Lock()
		defer p.mu.Unlock()
		f(m.Data)
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.subs = append(p.subs, sub)
}

// register makes the process say a service and answer for it, with any status.
func (p *plainProcess) register(s plainService, status ...string) {
	s.Host = cmp.Or(s.Host, "plainhost")
	one := &pong{plainService: s, Status: strings.Join(status, "")}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subscribe("ping", s.Name, func([]byte) {
		if p.mine[s.Name+s.Address] == one {
			p.say(one)
		}
	})
	p.mine[s.Name+s.Address] = one
	p.say(one)
}

func (p *plainProcess) unregister(s plainService) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mine, s.Name+s.Address)
	data, _ := json.Marshal(s)
	p.publish("unregister", s.Name, data)
}

// observe keeps a cache of a service; "*" is of all.
func (p *plainProcess) observe(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subscribe("register", name, p.heard)
	p.subscribe("unregister", name, func(data []byte) {
		var s plainService
		if json.Unmarshal(data, &s) == nil && p.accepts(s) {
			p.events = append(p.events, "unregister "+s.Name+" "+s.Address)
			delete(p.cache, s.Name+s.Address)
		}
	})
	if err := p.nc.Flush(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plainProcess) accepts(s plainService) bool { return p.host == "" || p.host == s.Host }

func (p *plainProcess) heard(data []byte) {
	var one *pong
	if err := json.Unmarshal(data, &one); err != nil || one == nil || !p.accepts(one.plainService) {
		return
	}
	old := p.cache[one.Name+one.Address]
	if old == nil {
		p.events = append(p.events, "register "+one.Name+" "+one.Address)
		p.cache[one.Name+one.Address] = one
		old = one
	}
	if one.Timestamps != nil {
		lasts := time.Duration(one.Timestamps.Duration) * time.Millisecond * 3 / 2
		old.due = time.UnixMilli(one.Timestamps.Registered).Add(lasts)
	}
}

// services returns those of a name in its cache. If there are none it asks, and waits for up to 100
// ms, as a first look-up does.
func (p *plainProcess) services(name string) []plainService {
	list := p.cached(name)
	if len(list) > 0 {
		return list
	}
	p.publish("ping", name, nil)
	for began := time.Now(); len(list) == 0 &&
		time.Since(began) < 100*time.Millisecond; list = p.cached(name) {
		time.Sleep(time.Millisecond) // between two looks
	}
	return list
}

func (p *plainProcess) cached(name string) (list []plainService) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.cache {
		if one.Name == name {
			list = append(list, one.plainService)
		}
	}
	return list
}

// addresses returns the addresses of the services of a name, in order.
func (p *plainProcess) addresses(name string) (list []string) {
	for _, s := range p.cached(name) {
		list = append(list, s.Address)
	}
	slices.Sort(list)
	return list
}

// told returns the events of a name's observer so far.
func (p *plainProcess) told() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events)
}

// crash ends the process without a message.
func (p *plainProcess) crash() {
	p.mu.Lock()
	subs := p.subs
	p.subs = nil
	select {
	case <-p.end:
	default:
		close(p.end)
	}
	p.mu.Unlock()
	p.ended.Wait()
	for _, sub := range subs {
		_ = sub.Unsubscribe()
	}
}

// stop ends the process as its Close does: it unregisters its services.
func (p *plainProcess) stop() {
	p.mu.Lock()
	mine := slices.Collect(maps.Values(p.mine))
	p.mu.Unlock()
	for _, one := range mine {
		p.unregister(one.plainService)
	}
	_ = p.nc.Flush()
	p.crash()
}
