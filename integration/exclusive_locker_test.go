package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/rpc"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
)

// lockerPlan is the task of a process that holds a name exclusively again and again, and uses it.
type lockerPlan struct {
	Name, URL, Counter string
	TTL                time.Duration
	Seed               uint64
}

// saidHeld and the others are what a locker prints. Times are from this machine's one clock, in
// nanoseconds.
const (
	saidHeld    = "held"    // from Call to At
	saidBelieve = "believe" // it believed at At that it holds the name: Err was nil after that
	saidAdding  = "adding"  // from Call on it reads the counter and adds one
	saidAdded   = "added"   // the addition was done
	saidOver    = "over"    // it no longer believes that it holds the name
	saidWrong   = "wrong"
)

// deed is one line of a locker.
type deed struct {
	What  string
	Who   string
	Call  int64
	At    int64
	Token uint64
	Read  int    // the counter's value
	ID    string // the id of a write
	Text  string
}

// counter is a resource that the holder of a name writes to. It refuses a token lower than the
// highest it has seen.
type counter struct {
	mu      sync.Mutex // guards what follows
	fence   uint64
	value   int
	written map[string]bool // the writes that were made, by their ids
}

// Use reads or writes the counter.
func (c *counter) Use(u Usage, value *int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.Token < c.fence {
		return fmt.Errorf("token %d is older than %d", u.Token, c.fence)
	}
	c.fence = u.Token
	if u.ID != "" {
		c.value, c.written[u.ID] = u.Value, true
	}
	*value = c.value
	return nil
}

// Usage is a read of the counter, or a write if ID is set. It is exported for net/rpc.
type Usage struct {
	Token uint64
	Value int
	ID    string
}

// serveCounter serves a counter on loopback until the test ends.
func serveCounter(t testing.TB) (c *counter, address string) {
	t.Helper()
	c = &counter{written: map[string]bool{}}
	server := rpc.NewServer()
	if err := server.RegisterName("Counter", c); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go server.ServeConn(c) // ends with the connection
		}
	}()
	return c, l.Addr().String()
}

// locker holds a name again and again, as its plan says.
type locker struct {
	plan    lockerPlan
	reg     *kvregistry.Registry
	counter *rpc.Client
	rnd     *rand.Rand
	adds    int
}

func (l *locker) open() error {
	l.rnd = rand.New(rand.NewPCG(l.plan.Seed, 0))
	nc, err := nats.Connect(l.plan.URL, nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.Timeout(time.Second),
		nats.ReconnectJitter(10*time.Millisecond, 10*time.Millisecond),
		nats.IgnoreDiscoveredServers(), nats.RetryOnFailedConnect(true),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err == nil {
		l.counter, err = rpc.Dial("tcp", l.plan.Counter)
	}
	if err == nil {
		l.reg, err = kvregistry.New(context.Background(), nc, kvregistry.Tenant("red"),
			kvregistry.TTL(l.plan.TTL), quiet())
	}
	return err
}

func (l *locker) say(d deed) {
	d.Who = l.plan.Name
	if d.At == 0 {
		d.At = time.Now().UnixNano()
	}
	_ = json.NewEncoder(os.Stdout).Encode(d)
}

// hold holds the name once, for a random time. Some of these times are longer than a fault takes to
// be noticed.
func (l *locker) hold(ctx context.Context) {
	wait, cancel := context.WithTimeout(ctx, 200*time.Millisecond+
		time.Duration(l.rnd.Int64N(int64(3*l.plan.TTL))))
	defer cancel()
	call := time.Now().UnixNano()
	h, err := l.reg.Exclusive(wait, "job")
	if err != nil {
		return
	}
	l.say(deed{What: saidHeld, Call: call, Token: h.Token()})
	for end := time.Now().Add(l.length()); time.Now().Before(end) && ctx.Err() == nil &&
		l.believes(h); {
		l.add(h)
	}
	l.believes(h)
	l.say(deed{What: saidOver, Token: h.Token()})
	release, cancelRelease := context.WithTimeout(context.Background(), time.Second)
	defer cancelRelease()
	_ = h.Release(release)
}

func (l *locker) length() time.Duration {
	if l.rnd.IntN(12) == 0 {
		return 4 * l.plan.TTL
	}
	return time.Duration(l.rnd.Int64N(int64(100 * time.Millisecond)))
}

// believes prints that the locker believes to hold the name, if it does.
func (l *locker) believes(h *kvregistry.Hold) bool {
	at := time.Now().UnixNano()
	if h.Err() != nil {
		return false
	}
	l.say(deed{What: saidBelieve, At: at, Token: h.Token()})
	return true
}

// add adds one to the counter, by a read and a write. If it is refused, the hold must have ended.
func (l *locker) add(h *kvregistry.Hold) {
	l.adds++
	d := deed{What: saidAdding, Call: time.Now().UnixNano(), Token: h.Token(),
		ID: fmt.Sprintf("%s-%d", l.plan.Name, l.adds)}
	err := l.counter.Call("Counter.Use", Usage{Token: d.Token}, &d.Read)
	if err == nil {
		l.say(d)
		d.What, d.At = saidAdded, 0
		// the work between the read and the write
		time.Sleep(time.Duration(l.rnd.Int64N(int64(5 * time.Millisecond))))
		err = l.counter.Call("Counter.Use", Usage{Token: d.Token, Value: d.Read + 1, ID: d.ID},
			new(int))
	}
	switch held := h.Err() == nil; {
	case err == nil:
		l.say(d)
	case held:
		l.say(deed{What: saidWrong, Token: h.Token(), Text: "it was refused while it believed " +
			"that it holds the name: " + err.Error()})
	}
}

// lockerProcess runs a locker until its standard input ends. Then it closes its registry.
func lockerProcess(text string) int {
	l := &locker{}
	err := json.Unmarshal([]byte(text), &l.plan)
	if err == nil {
		err = l.open()
	}
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // ends with the standard input
		for sc := bufio.NewScanner(os.Stdin); sc.Scan(); {
		}
		cancel()
	}()
	for l.say(deed{What: saidReady}); ctx.Err() == nil; {
		l.hold(ctx)
	}
	if err := l.reg.Close(); err != nil {
		l.say(deed{What: saidWrong, Text: err.Error()})
	}
	l.say(deed{What: saidClosed})
	return 0
}
