package bridge

import (
	"fmt"
	"log/slog"
	"testing"
	"time"
)

// Nothing is registered beyond the bound at once, or in ten minutes. Seen to fail with a refill
// that has no bound.
func TestBudget(t *testing.T) {
	now := time.Now()
	b := newBudget(10, now)
	taken := func(at time.Time) (n int) {
		for b.take(at) {
			n++
		}
		return n
	}
	for i, want := range []int{10, 0, 5, 10} {
		now = now.Add([]time.Duration{0, time.Second, 5 * time.Minute, 10 * time.Hour}[i])
		if got := taken(now); got != want {
			t.Errorf("step %d: %d, want %d", i, got, want)
		}
	}
}

// At most MaxInstances instances are known at a time, even if more may be written; one that ends
// makes room. Seen to fail with twice the bound, and with remove that does not count.
func TestInstancesAreBounded(t *testing.T) {
	b := &Bridge{opt: options{most: 3, logger: slog.New(slog.DiscardHandler)},
		budget: newBudget(1000, time.Now())}
	hear := func(i int) { b.hear("web", fmt.Appendf(nil, `{"name":"web","add":"a:%d"}`, i)) }
	for range 2 {
		for i := range 5 {
			hear(i)
		}
	}
	if b.heard.n != 3 || b.dropped != 4 {
		t.Errorf("%d instances are known, and %d were dropped; want 3 and 4", b.heard.n, b.dropped)
	}
	b.hearEnd("web", []byte(`{"name":"web","add":"a:0"}`))
	hear(4)
	if b.heard.n != 3 || b.heard.at(place{name: "web", address: "a:4"}) == nil ||
		b.heard.at(place{name: "web", address: "a:0"}) != nil {
		t.Errorf("%d instances are known, and the one that ended is not replaced by "+
			"another", b.heard.n)
	}
}

// A plain process that unregisters a service without address and URL ends all of its instances
// without an address, because they are one to plain processes; the others are asked for. Seen to
// fail with hearEnd that looks at the place alone, and with one that does not ask.
func TestEndWithoutAddress(t *testing.T) {
	b := &Bridge{
		opt:    options{most: 10, logger: slog.New(slog.DiscardHandler)},
		budget: newBudget(10, time.Now()),
		asked:  map[string]question{"web": {}}, // a moment ago
	}
	for _, data := range []string{`{"name":"web","url":"http://a/1"}`,
		`{"name":"web","url":"http://b/2"}`, `{"name":"web","add":"c:3","url":"http://c/3"}`} {
		b.hear("web", []byte(data))
	}
	b.hearEnd("web", []byte(`{"name":"web"}`))
	if b.heard.n != 1 || b.heard.at(place{name: "web", address: "c:3"}) == nil {
		t.Errorf("%d instances are left, want the one with an address", b.heard.n)
	}
	if !b.asked["web"].again {
		t.Error("those that are still there are not asked for")
	}
}

// At an address that each host has, a plain process ends the instance of its own host, and all of
// them if it names no host, as plain processes understand it. Seen to fail with hearEnd that looks
// at the address alone, and with one that always looks at the host.
func TestEndOfOneHost(t *testing.T) {
	b := &Bridge{
		opt:    options{most: 10, logger: slog.New(slog.DiscardHandler)},
		budget: newBudget(10, time.Now()),
		asked:  map[string]question{"web": {}},
	}
	for _, host := range []string{"a", "b", "c"} {
		b.hear("web", []byte(`{"name":"web","add":"127.0.0.1:80","h":"`+host+`"}`))
	}
	for _, step := range []struct {
		host string
		left int
	}{{`,"h":"d"`, 3}, {`,"h":"a"`, 2}, {``, 0}} {
		b.hearEnd("web", []byte(`{"name":"web","add":"127.0.0.1:80"`+step.host+`}`))
		if b.heard.n != step.left {
			t.Errorf("after the end %s there are %d instances, want %d", step.host,
				b.heard.n, step.left)
		}
	}
}
