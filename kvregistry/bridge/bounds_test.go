package bridge

import (
	"fmt"
	"log/slog"
	"testing"
	"time"
)

// What is more than the bound at once, or in ten minutes, is not let in. Seen to fail with a refill that has no bound.
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

// So many instances are known at a time, and no more, however much may be written; one that goes makes room. Seen to fail with twice the bound, and with remove that does not count.
func TestInstancesAreBounded(t *testing.T) {
	b := &Bridge{opt: options{most: 3, logger: slog.New(slog.DiscardHandler)}, budget: newBudget(1000, time.Now())}
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
	if b.heard.n != 3 || b.heard.at(place{name: "web", address: "a:4"}) == nil || b.heard.at(place{name: "web", address: "a:0"}) != nil {
		t.Errorf("%d instances are known, and the one that went is not replaced by another", b.heard.n)
	}
}

// A plain process that takes back a service without address and URL takes back all of them that have no address, for to plain processes they are one; the others are asked for. Seen to fail
// with hearEnd that looks at the place alone, and with one that does not ask.
func TestEndWithoutAddress(t *testing.T) {
	b := &Bridge{
		opt: options{most: 10, logger: slog.New(slog.DiscardHandler)}, budget: newBudget(10, time.Now()),
		asked: map[string]question{"web": {}}, // a moment ago
	}
	for _, data := range []string{`{"name":"web","url":"http://a/1"}`, `{"name":"web","url":"http://b/2"}`, `{"name":"web","add":"c:3","url":"http://c/3"}`} {
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

// At an address that each host has, a plain process takes back its own host's instance, and all where it says no host, as plain processes take it. Seen to fail with hearEnd that looks
// at the address alone, and with one that looks at the host whatever it is.
func TestEndOfOneHost(t *testing.T) {
	b := &Bridge{
		opt: options{most: 10, logger: slog.New(slog.DiscardHandler)}, budget: newBudget(10, time.Now()),
		asked: map[string]question{"web": {}},
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
			t.Errorf("after the end %s there are %d instances, want %d", step.host, b.heard.n, step.left)
		}
	}
}
