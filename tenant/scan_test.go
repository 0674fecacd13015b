package tenant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
)

// While an entry is looked at, the others wait at the server: a scan takes no more memory than flow control lets be under way. Seen to fail with a scan by
// the watcher of nats.go, which took all of them.
func TestScanKeepsNothing(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	b, err := New(nc, "test", Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	const many, size = 40, 1 << 19
	for i := range many {
		if _, err := b.Write(t.Context(), Write{Key: fmt.Sprintf("svc.web.%d", i), Value: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
	}
	before, seen := nc.Stats().InBytes, 0
	err = b.Scan(t.Context(), AllServices, true, func(Entry) {
		if seen++; seen > 1 {
			return
		}
		came := nc.Stats().InBytes - before
		for last := came + 1; came != last; last, came = came, nc.Stats().InBytes-before {
			time.Sleep(200 * time.Millisecond) // until nothing more comes
		}
		if came > many*size/4 {
			t.Errorf("%d bytes came while the first of %d entries of %d was looked at", came, many, size)
		}
	})
	if err != nil || seen != many {
		t.Errorf("saw %d of %d: %v", seen, many, err)
	}
}

// An entry whose headers say that it is a word of the server's, as a heartbeat or that the consumer is gone, is an entry like any other, and the scan sees those behind it. Seen
// to fail with nats.go's ordered consumer: the scan saw none, then and for as long as the key stood.
func TestScanOfWhatLooksLikeTheServers(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t).Connect()
	b, err := New(nc, "test", Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, status := range []string{"100", "400", "404", "408", "409", "423", "503"} {
		for _, description := range []string{"", "Idle Heartbeat", "FlowControl Request", "Consumer Deleted", "Leadership Change", "Batch Completed"} {
			msg := nats.NewMsg(b.Subject(fmt.Sprintf("svc.web.%d", want)))
			msg.Header = nats.Header{"Status": {status}, "Description": {description}, "Nats-Last-Consumer": {"7"}, "Nats-Consumer-Stalled": {"x"}}
			if _, err := nc.RequestMsgWithContext(t.Context(), msg); err != nil {
				t.Fatal(err)
			}
			want++
		}
	}
	for _, values := range []bool{true, false} {
		seen := 0
		err := b.Scan(t.Context(), AllServices, values, func(e Entry) {
			if seen++; e.Op != Put || len(e.Value) > 0 {
				t.Errorf("%+v", e)
			}
		})
		if err != nil || seen != want {
			t.Errorf("saw %d of %d: %v", seen, want, err)
		}
	}
	natstest.Eventually(t, time.Second, func() error { // and leaves no consumer behind
		if left := natstest.Consumers(t, nc, b.Stream()); len(left) > 0 {
			return fmt.Errorf("there are %q", left)
		}
		return nil
	})
}

// A scan whose consumer was made, and whose entries come, though the answer that says so does not, looks at none of them once it has returned. Seen to fail, with the race
// detector, with one that is stopped only where it began well.
func TestScanThatDoesNotBegin(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect(nats.SetCustomDialer(deafDialer{}))
	b, err := New(nc, "test", Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := b.Write(t.Context(), Write{Key: fmt.Sprintf("svc.web.%d", i), Value: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		seen := 0
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err = b.Scan(ctx, AllServices, true, func(Entry) { seen++ })
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || seen > 0 {
			t.Errorf("saw %d, and %v", seen, err)
		}
	}
}

// deafDialer makes connections on which the answers to a consumer's making go to somebody else.
type deafDialer struct{}

func (deafDialer) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return deafConn{c}, err
}

type deafConn struct{ net.Conn }

func (c deafConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if at := bytes.Index(p[:n], []byte("consumer_create_response")); at >= 0 {
		if line := bytes.LastIndex(p[:at], []byte("MSG _INBOX.")); line >= 0 {
			space := line + 4 + bytes.IndexByte(p[line+4:at], ' ')
			p[space-1] ^= 1 // the last letter of the request's own token
		}
	}
	return n, err
}
