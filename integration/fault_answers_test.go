package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// faulty dials connections that fail at the first write of a message to one subject.
type faulty struct {
	subject string
	how     string        // "answer lost", "answer late", "request lost" or "request late"
	release chan struct{} // the test closes it to end the fault

	mu   sync.Mutex // guards what follows
	sent int        // the number of messages to the subject
}

func (f *faulty) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return &faultyConn{Conn: c, f: f}, err
}

// count counts the messages to the subject in p, and reports whether the first one is among them.
func (f *faulty) count(p []byte) (first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := bytes.Count(p, []byte("PUB "+f.subject+" "))
	f.sent += n
	return n > 0 && f.sent == n
}

// await waits until n messages were sent to the subject.
func (f *faulty) await(t *testing.T, n int) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.sent < n {
			return fmt.Errorf("%d of %d were sent", f.sent, n)
		}
		return nil
	})
}

// faultyConn is a connection of faulty. During the fault nothing passes through it. If the fault
// loses something, the connection ends with the fault.
type faultyConn struct {
	net.Conn
	f *faulty

	mu   sync.Mutex // guards what follows
	hurt bool
	late bytes.Buffer // the bytes that were written during the fault
}

func (c *faultyConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.f.count(p) {
		c.hurt = true
		go c.deliver()
		if strings.HasPrefix(c.f.how, "answer") {
			return c.Conn.Write(p)
		}
	}
	if c.hurt {
		return c.late.Write(p)
	}
	return c.Conn.Write(p)
}

// deliver ends the fault.
func (c *faultyConn) deliver() {
	<-c.f.release
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hurt = false
	if strings.HasSuffix(c.f.how, "lost") {
		_ = c.Close()
	} else {
		_, _ = c.late.WriteTo(c.Conn)
	}
}

func (c *faultyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	hurt := c.hurt
	c.mu.Unlock()
	if hurt {
		<-c.f.release
		if strings.HasSuffix(c.f.how, "lost") {
			return 0, io.EOF // the received bytes are lost
		}
	}
	return n, err
}

// Invariant 3: the newest registration of an id wins, even if its first write or the answer to it
// is lost or late. Seen to fail with a first write that is repeated on top of any value, with one
// that is not a compare-and-swap, and with one that is never repeated on top of another owner's.
func TestFirstWriteThatIsNotAnswered(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"answer lost", "request lost", "request late", "answer late"} {
		for _, other := range []string{
			"nobody", "an older one", "an older one of before the lease", "a newer one",
			"a newer one beside an older one",
		} {
			t.Run(how+", "+other, func(t *testing.T) {
				t.Parallel()
				notAnswered(t, how, other)
			})
		}
	}
}

func notAnswered(t *testing.T, how, other string) {
	s := natstest.Start(t)
	f := &faulty{subject: "$KV.registry_default.svc.web.one", how: how,
		release: make(chan struct{})}
	const patient = 20 * time.Second // the lease must not end meanwhile
	r := openOn(t, natstest.Connect(t, s.URL(), nats.SetCustomDialer(f)), kvregistry.TTL(patient))
	release := sync.OnceFunc(func() { close(f.release) })
	t.Cleanup(release) // runs before the registry is closed
	registered := 0    // other registrations
	if !strings.HasSuffix(other, "lease") {
		register(t, r, kvService{Name: "other", ID: "a", Address: "h:1"})
		registered = 1
	}
	takes := func(address string) {
		t.Helper()
		register(t, open(t, s), kvService{Name: "web", ID: "one", Address: address})
	}
	if strings.Contains(other, "older") {
		takes("older:1")
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() {
		_, err := r.RegisterContext(ctx, kvService{Name: "web", ID: "one", Address: "first:1"})
		done <- err
	}()
	f.await(t, 1)
	want := "first:1"
	if strings.HasPrefix(other, "a newer one") {
		want = "newer:1"
		if strings.HasSuffix(how, "late") { // a late answer may come in time
			f.await(t, 2)
		}
		// before the first write arrives, the other registration would be the older one
		if strings.HasPrefix(how, "answer") {
			observer := open(t, s)
			natstest.Eventually(t, natstest.Soon,
				func() error { return wantAddress(observer, "first:1") })
		}
		takes("newer:1")
	}
	release()
	err := <-done
	switch {
	case want == "first:1" && err != nil:
		t.Errorf("the newest registration gave %v", err)
	case want == "newer:1" && err != nil && !errors.Is(err, kvregistry.ErrFenced):
		t.Errorf("the earlier registration gave %v", err)
	}
	observer := open(t, s)
	natstest.Eventually(t, natstest.Soon, func() error {
		if err := wantAddress(observer, want); err != nil {
			return err
		}
		if declared := len(r.RegisteredServices()); (declared > registered) != (want == "first:1") {
			return fmt.Errorf("the first registry lists %d registrations", declared)
		}
		return nil
	})
}
