package lease

import (
	"bytes"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
)

// lateLine makes connections that deliver everything late, in order and without a bound on what is
// under way.
type lateLine struct{ by atomic.Int64 } // nanoseconds

func (l *lateLine) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	late := &lateConn{Conn: c, parts: make(chan part, 1<<12)}
	go func() { // ends when the connection is closed
		for {
			p := part{data: make([]byte, 4<<10)}
			n, err := c.Read(p.data)
			p.data, p.err, p.due = p.data[:n], err, time.Now().Add(time.Duration(l.by.Load()))
			if late.parts <- p; err != nil {
				return
			}
		}
	}()
	return late, nil
}

// part is what came in at once, and the time at which it is read.
type part struct {
	data []byte
	err  error
	due  time.Time
}

type lateConn struct {
	net.Conn
	parts chan part
	part  part // the one that is being read
}

func (c *lateConn) Read(p []byte) (int, error) {
	if len(c.part.data) == 0 && c.part.err == nil {
		c.part = <-c.parts
		time.Sleep(time.Until(c.part.due)) // the fault itself
	}
	n := copy(p, c.part.data)
	if c.part.data = c.part.data[n:]; len(c.part.data) > 0 {
		return n, nil
	}
	return n, c.part.err
}

// A lease is kept on a connection whose answers come later than the time after which a heartbeat is
// repeated. The server has renewed it meanwhile. Seen to fail with heartbeats that are given up
// after that time.
func TestLeaseWhoseAnswersComeLate(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	line := &lateLine{}
	b := newBucket(t, s, nats.SetCustomDialer(line))
	const ttl = 3 * MinTTL // an answer may come later than here by another half of that
	k := newKeeper(t, b, KeeperConfig{TTL: ttl})
	l := held(t, k)
	line.by.Store(int64(ttl / 3))
	from, worst := time.Now(), time.Duration(0)
	natstest.Eventually(t, ttl+natstest.Soon, func() error {
		if err := l.Err(); err != nil {
			t.Fatal(err)
		}
		worst = max(worst, time.Since(k.Renewed()))
		if k.Renewed().Sub(from) < ttl*3/2 {
			return errors.New("no heartbeat of more than a TTL later is acknowledged")
		}
		return nil
	})
	t.Logf("a heartbeat was acknowledged up to %s after the one before was begun", worst)
	if !has(t, newBucket(t, s), tenant.LeaseKey(l.ID)) {
		t.Error("the lease is over")
	}
	line.by.Store(0) // so that Close does not wait
}

// A keeper without an answer to several heartbeats gives the lease up after a TTL. It takes the
// next lease when the server answers again. No connection reports the fault. Seen to fail with
// heartbeats that are waited for when the lease is lost, and with a lease that is never given up.
func TestLeaseThatIsNotAnsweredIsLost(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	valve := &natstest.Valve{}
	b := newBucket(t, s, nats.SetCustomDialer(valve))
	k := newKeeper(t, b, KeeperConfig{})
	l := held(t, k)
	valve.Lock()
	select {
	case <-l.Done():
		if took := time.Since(k.Renewed()); took < MinTTL || !errors.Is(l.Err(), ErrLost) {
			t.Errorf("lost %s after a heartbeat, by %v", took, l.Err())
		}
	case <-time.After(natstest.Soon):
		t.Error("the lease is not given up")
	}
	valve.Unlock()
	if next := held(t, k); next.ID == l.ID {
		t.Error("the lease goes on")
	}
}

// lossyLine makes connections that lose one heartbeat when armed.
type lossyLine struct {
	armed atomic.Bool
	last  net.Conn // the connection that was made
}

func (l *lossyLine) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	l.last = c
	return lossyConn{c, l}, err
}

type lossyConn struct {
	net.Conn
	line *lossyLine
}

func (c lossyConn) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(".lease.")) && c.line.armed.CompareAndSwap(true, false) {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// A lost heartbeat is sent again in time, on a connection that works. Seen to fail with a keeper
// that waits for its answer.
func TestLostHeartbeatIsSentAgain(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	line := &lossyLine{}
	b := newBucket(t, s, nats.SetCustomDialer(line))
	const ttl = 3 * MinTTL // half of it is left when the heartbeat is sent again
	l := held(t, newKeeper(t, b, KeeperConfig{TTL: ttl}))
	granted := l.Until()
	line.armed.Store(true)
	natstest.Eventually(t, ttl+natstest.Soon, func() error {
		if err := l.Err(); err != nil {
			t.Fatal(err)
		}
		if line.armed.Load() || l.Until().Sub(granted) < ttl {
			return errors.New("no heartbeat was lost, or none came through after it")
		}
		return nil
	})
}

// If an answer is lost with its connection, the try for a lease is repeated on the next connection,
// not when its time is over. Seen to fail with tries that are not told of the connection.
func TestGrantAfterAReconnect(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	line := &lossyLine{}
	b := newBucket(t, s, nats.SetCustomDialer(line))
	line.armed.Store(true)
	const ttl = time.Minute
	k := newKeeper(t, b, KeeperConfig{TTL: ttl})
	k.Start()
	natstest.Eventually(t, natstest.Soon, func() error {
		if line.armed.Load() {
			return errors.New("no try was made")
		}
		return nil
	})
	_ = line.last.Close()
	// when the try's time is over, the next one is made anyway
	natstest.Eventually(t, tryTime(ttl)*3/4, func() error {
		if k.Current() == nil {
			return errors.New("no lease is held")
		}
		return nil
	})
}

// A late answer to a lost lease's heartbeat does not bring the lease back. Seen to fail with a
// grant that takes each late answer.
func TestGrantTakesNoLostLease(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, newBucket(t, natstest.Start(t)), KeeperConfig{})
	lost := k.newLease("lost")
	lost.end(ErrLost)
	k.wg.Go(func() { // ends when grant reads, or with the keeper
		select {
		case k.answers <- answer{lease: lost, began: time.Now(), rev: 1}:
		case <-k.ctx.Done():
		}
	})
	if l, err := k.grant(nil); err != nil || l == lost {
		t.Errorf("granted %v, %v", l, err)
	}
}

// answered tells from an answer to a heartbeat what became of the lease. Seen to fail with a
// conflict of an earlier heartbeat that loses the lease, with one that is not looked into if an
// answer is missing, and with a lease that counts from when the answer came.
func TestAnswered(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	const id = "by-hand"
	key := tenant.LeaseKey(id)
	granted := put(t, b, key, "granted")
	beat := put(t, b, key, "heartbeat")
	began := time.Now().Add(-MinTTL / 4)
	tests := []struct {
		name           string
		rev            uint64 // that the keeper knows
		answer         answer
		unsure, others bool
		want           uint64 // revision
		lost           bool
	}{
		{"acknowledged", granted, answer{on: granted, rev: beat}, false, false, beat, false},
		{"an earlier one", beat, answer{on: granted, rev: granted}, false, false, beat, false},
		{"a conflict of an earlier one", beat, answer{on: granted, err: tenant.ErrConflict}, false,
			false, beat, false},
		{"a conflict, others under way", granted, answer{on: granted, err: tenant.ErrConflict},
			false, true, beat, false},
		{"a conflict, an answer missed", granted, answer{on: granted, err: tenant.ErrConflict},
			true, false, beat, false},
		{"a conflict", granted, answer{on: granted, err: tenant.ErrConflict}, false, false, granted,
			true},
	}
	for _, tt := range tests {
		k := newKeeper(t, b, KeeperConfig{})
		tt.answer.began = began.Add(time.Millisecond)
		l := k.newLease(id)
		k.lease, l.rev, l.asked = l, tt.rev, tt.answer.began
		if tt.unsure {
			l.asked = began
		}
		l.begun.Store(&began)
		_, err := k.answered(l, tt.answer, tt.others)
		if l.rev != tt.want || errors.Is(err, ErrLost) != tt.lost || (err == nil) == tt.lost {
			t.Errorf("%s: revision %d, want %d; %v", tt.name, l.rev, tt.want, err)
		}
		if got := k.Renewed(); tt.answer.err == nil && !got.Equal(tt.answer.began) {
			t.Errorf("%s: it counts from %s after its beginning", tt.name, got.Sub(tt.answer.began))
		}
	}
	if _, err := b.Write(t.Context(), tenant.Write{Key: key, Op: tenant.Purge}); err != nil {
		t.Fatal(err)
	}
	k := newKeeper(t, b, KeeperConfig{})
	l := k.newLease(id)
	l.rev = beat
	if _, err := k.answered(l, answer{on: beat, err: tenant.ErrConflict}, true); !errors.Is(err,
		ErrLost) {
		t.Errorf("a sealed lease gave %v", err)
	}
}
