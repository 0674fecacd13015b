package bridge_test

import (
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
)

var discard = slog.New(slog.DiscardHandler)

// link is a proxy of a server that can be frozen: it stays up, and lets nothing through.
type link struct {
	l      net.Listener
	to     string
	mu     sync.Mutex
	cond   *sync.Cond
	frozen bool
}

func newLink(t testing.TB, to string) *link {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &link{l: l, to: strings.TrimPrefix(to, "nats://")}
	k.cond = sync.NewCond(&k.mu)
	go k.serve() // ends with the listener
	t.Cleanup(func() { _ = l.Close(); k.freeze(false) })
	return k
}

func (k *link) url() string { return "nats://" + k.l.Addr().String() }

func (k *link) freeze(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.frozen = on
	k.cond.Broadcast()
}

func (k *link) serve() {
	for {
		from, err := k.l.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", k.to)
		if err != nil {
			_ = from.Close()
			continue
		}
		go k.pass(from, to) // these end with the connections
		go k.pass(to, from)
	}
}

// pass copies until an end is closed.
func (k *link) pass(from, to net.Conn) {
	defer func() { _ = from.Close(); _ = to.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		k.mu.Lock()
		for k.frozen {
			k.cond.Wait()
		}
		k.mu.Unlock()
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}
