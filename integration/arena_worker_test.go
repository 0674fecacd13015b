package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
)

// entry is one line of a history: what a process did or saw, or a fault. Times are from this
// machine's one clock.
type entry struct {
	At   int64  `json:"at"` // nanoseconds
	Who  string `json:"who"`
	What string `json:"what"`

	Service  string `json:"service,omitempty"`
	ID       string `json:"id,omitempty"`
	Revision uint64 `json:"revision,omitempty"`
	By       string `json:"by,omitempty"` // the worker that wrote the instance
	Value    int    `json:"value,omitempty"`
	Err      string `json:"err,omitempty"`
	State    *state `json:"state,omitempty"`
	Left     string `json:"left,omitempty"` // the goroutines that remain after the close
}

// saidReady and the others are the kinds of entries.
const (
	saidReady     = "ready"
	saidConnected = "connected" // connected again
	saidPaused    = "paused"
	saidClosed    = "closed"
	saidState     = "state"
	saidCall      = "call "  // with the operation: it began
	saidAck       = "ack "   // it was acknowledged, or it is pending
	saidFail      = "fail "  // it was refused
	saidEvent     = "event " // with its kind
	saidLook      = "look-up"
	saidCatalog   = "catalog" // whose revision is not as it has to be
	// a fault began; ID is its name, and By the worker that it hurts, if it hurts one
	saidFault   = "fault"
	saidHealed  = "healed"  // it ended
	saidKilled  = "killed"  // a worker was killed
	saidStopped = "stopped" // a worker was told to close
	saidReset   = "reset"   // the bucket was deleted, and revisions start over
	saidSettled = "settled" // the test found every cache equal to the bucket, and the bucket right
	saidMeddled = "meddled" // the test wrote or removed keys by hand
)

// state is what a worker holds and sees at one moment.
type state struct {
	// the declared instances, by service and id, with their values
	Declared map[string]int `json:"declared"`
	// the revisions of the instances that its registry lists
	Held       map[string]uint64       `json:"held"`
	Seen       map[string]seenInstance `json:"seen"`
	Goroutines int                     `json:"goroutines"`
	Log        map[string]int          `json:"log"` // lines logged so far, by message
	Health     string                  `json:"health"`
}

type seenInstance struct {
	Revision uint64 `json:"revision"`
	By       string `json:"by"`
	Value    int    `json:"value"`
}

// workerPlan is the task of a worker process.
type workerPlan struct {
	Name, URL, Tenant string
	TTL               time.Duration
	Seed              uint64
	Own               int           // the number of its own instances
	Shared            int           // the number of ids that it shares with others
	Pace              time.Duration // between two changes
}

// worker registers, changes and unregisters instances at random. It prints what it does, and what
// it sees of the whole tenant.
type worker struct {
	plan  workerPlan
	idle  int // goroutines at the start
	nc    *nats.Conn
	reg   *kvregistry.Registry
	rnd   *rand.Rand
	out   sync.Mutex
	logs  map[string]int // guarded by out
	value int

	declared map[string]int          // the values of its own instances, by service and id
	takeBack map[string]func() error // by instance: its unregister function
}

func (w *worker) open() error {
	var err error
	w.nc, err = nats.Connect(w.plan.URL, nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.Timeout(time.Second),
		nats.ReconnectJitter(10*time.Millisecond, 10*time.Millisecond),
		nats.IgnoreDiscoveredServers(), nats.RetryOnFailedConnect(true),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
		nats.ReconnectHandler(func(*nats.Conn) { w.say(entry{What: saidConnected}) }))
	if err != nil {
		return err
	}
	opts := []kvregistry.Option{
		kvregistry.Tenant(w.plan.Tenant), kvregistry.TTL(w.plan.TTL), kvregistry.OnEvent(w.event),
		kvregistry.Logger(slog.New(slog.NewTextHandler(w, nil))),
	}
	// in a cluster a worker leaves a node that is cut off
	if w.plan.Seed%2 == 0 || strings.Contains(w.plan.URL, ",") {
		opts = append(opts, kvregistry.ForceReconnect())
	}
	w.reg, err = kvregistry.New(context.Background(), w.nc, opts...)
	if err != nil {
		return err
	}
	go w.follow() // ends with the registry
	return w.reg.Observe(kvregistry.Everything)
}

// follow checks that catalogs that differ in content differ in revision, which grows, and that the
// same holds for the snapshots of a service.
func (w *worker) follow() {
	var last *kvregistry.Catalog
	for catalog, err := range w.reg.Catalogs(context.Background()) {
		if err != nil {
			return
		}
		if last != nil && catalog.Revision() <= last.Revision() {
			w.say(entry{What: saidCatalog, Err: fmt.Sprintf("catalog %d came after %d",
				catalog.Revision(), last.Revision())})
		}
		for snap := range catalog.All() {
			if last == nil {
				break
			}
			was := last.Snapshot(snap.Name())
			if snap.Revision() <= was.Revision() && !slices.EqualFunc(slices.Collect(snap.All()),
				slices.Collect(was.All()), sameInstance) {
				w.say(entry{What: saidCatalog, Err: fmt.Sprintf(
					"service %s has revision %d after %d and another content", snap.Name(),
					snap.Revision(), was.Revision())})
			}
		}
		last = catalog
	}
}

func sameInstance(a, b kvregistry.Service) bool {
	return a.ID == b.ID && a.Revision == b.Revision && a.Status == b.Status &&
		maps.Equal(a.Metadata, b.Metadata)
}

// Write counts log lines.
func (w *worker) Write(line []byte) (int, error) {
	_, message, _ := strings.Cut(string(line), "msg=\"kvregistry: ")
	message, _, _ = strings.Cut(message, "\"")
	_, cause, _ := strings.Cut(string(line), "cause=")
	w.out.Lock()
	defer w.out.Unlock()
	w.logs[message+": "+strings.TrimSpace(cause)]++
	return len(line), nil
}

func (w *worker) say(e entry) {
	w.out.Lock()
	defer w.out.Unlock()
	if e.At == 0 {
		e.At = time.Now().UnixNano()
	}
	e.Who = w.plan.Name
	_ = json.NewEncoder(os.Stdout).Encode(e)
}

func (w *worker) event(e kvregistry.Event) {
	said := entry{What: saidEvent + string(e.Kind), Service: e.Service.Name, ID: e.Service.ID,
		Revision: e.Service.Revision}
	said.By, said.Value = e.Service.Metadata["by"], number(e.Service.Metadata["value"])
	w.say(said)
}

// serve carries out commands, and makes changes meanwhile.
func (w *worker) serve() {
	commands := make(chan string)
	go func() { // ends with the standard input
		defer close(commands)
		for sc := bufio.NewScanner(os.Stdin); sc.Scan(); {
			commands <- sc.Text()
		}
	}()
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	pace := time.NewTimer(0)
	working, last := true, "none"
	for {
		select {
		case command, more := <-commands:
			switch {
			case !more:
				return
			case command == "pause":
				working = false
				w.say(entry{What: saidPaused})
			case command == "resume":
				working = true
				pace.Reset(0)
			case command == "state":
				// At is the time at which the state is taken
				w.say(entry{At: time.Now().UnixNano(), What: saidState, State: w.state()})
			case command == "close":
				err := w.reg.Close()
				w.say(entry{What: saidClosed, Err: text(err), Left: w.left()})
				return
			}
		case <-pace.C:
			if working && w.plan.Own+w.plan.Shared > 0 {
				w.work()
				pace.Reset(w.plan.Pace/2 + time.Duration(w.rnd.Int64N(int64(w.plan.Pace))))
			}
		case <-looks.C:
			last = w.look(last)
		}
	}
}

// left returns the goroutines that remain a while after everything was closed, except the one that
// serve started.
func (w *worker) left() string {
	w.nc.Close()
	for range 2000 {
		if runtime.NumGoroutine() <= w.idle+1 {
			return ""
		}
		time.Sleep(10 * time.Millisecond) // between two checks
	}
	stacks := make([]byte, 64<<10)
	return string(stacks[:runtime.Stack(stacks, true)])
}

// look looks up a service, and prints the answer if it is of another kind than the last one.
func (w *worker) look(last string) string {
	_, err := w.reg.GetService("s0")
	now := "found"
	switch {
	case errors.Is(err, kvregistry.ErrNotFound):
		now = "not found"
	case err != nil:
		now = err.Error()
	}
	if now != last {
		w.say(entry{What: saidLook, Err: now})
	}
	return now
}

// work makes one change.
func (w *worker) work() {
	id, name := "shared-0", "s0"
	if n := w.rnd.IntN(w.plan.Own + w.plan.Shared); n < w.plan.Own {
		id, name = fmt.Sprintf("%s-%d", w.plan.Name, n), fmt.Sprintf("s%d", n%3)
	} else {
		id = fmt.Sprintf("shared-%d", n-w.plan.Own)
	}
	w.value++
	s := kvregistry.Service{
		Name: name, ID: id, Address: "127.0.0.1:1", Metadata: map[string]string{"by": w.plan.Name,
			"value": strconv.Itoa(w.value)},
	}
	switch _, held := w.held()[name+"/"+id]; {
	case !held:
		w.do("register", s, func(ctx context.Context) error {
			takeBack, err := w.reg.RegisterContext(ctx, s)
			if takeBack != nil {
				w.takeBack[name+"/"+id] = takeBack
			}
			return err
		})
	case w.rnd.IntN(3) == 0:
		w.do("unregister", s, func(context.Context) error { return w.takeBack[name+"/"+id]() })
	default:
		w.do("update", s, func(ctx context.Context) error { return w.reg.UpdateContext(ctx, s) })
	}
}

// held returns the instances that the registry lists. For shared ids no other source knows.
func (w *worker) held() map[string]int {
	held := map[string]int{}
	for _, s := range w.reg.RegisteredServices() {
		held[s.Name+"/"+s.ID] = number(s.Metadata["value"])
	}
	return held
}

// do makes a change, and prints an entry before and after. A change that returns ErrPending counts
// as done, because the registry will write it.
func (w *worker) do(op string, s kvregistry.Service, change func(context.Context) error) {
	said := entry{What: saidCall + op, Service: s.Name, ID: s.ID, By: w.plan.Name, Value: w.value}
	w.say(said)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := change(ctx)
	said.What, said.At, said.Err = saidAck+op, 0, text(err)
	switch key := s.Name + "/" + s.ID; {
	case err != nil && !errors.Is(err, kvregistry.ErrPending):
		said.What = saidFail + op
	case op == "unregister":
		delete(w.declared, key)
	default:
		w.declared[key] = w.value
	}
	w.say(said)
}

func (w *worker) logged() map[string]int {
	w.out.Lock()
	defer w.out.Unlock()
	return maps.Clone(w.logs)
}

func (w *worker) state() *state {
	s := &state{Declared: map[string]int{}, Held: map[string]uint64{},
		Seen: map[string]seenInstance{}, Goroutines: runtime.NumGoroutine(), Log: w.logged()}
	for key, value := range w.declared {
		if !strings.Contains(key, "shared") {
			s.Declared[key] = value
		}
	}
	for key, value := range w.held() {
		if strings.Contains(key, "shared") {
			s.Declared[key] = value
		}
	}
	for _, own := range w.reg.RegisteredServices() {
		s.Held[own.Name+"/"+own.ID] = own.Revision
	}
	for _, name := range []string{"s0", "s1", "s2"} {
		snap, err := w.reg.Snapshot(name)
		if err != nil {
			continue
		}
		for i := range snap.All() {
			s.Seen[name+"/"+i.ID] = seenInstance{i.Revision, i.Metadata["by"],
				number(i.Metadata["value"])}
		}
	}
	s.Health = fmt.Sprintf("%+v", w.reg.Health())
	return s
}

// workerProcess runs a worker until its standard input ends.
func workerProcess(text string) int {
	w := &worker{idle: runtime.NumGoroutine(), declared: map[string]int{},
		takeBack: map[string]func() error{}, logs: map[string]int{}}
	if err := json.Unmarshal([]byte(text), &w.plan); err != nil {
		fmt.Println("failed", err)
		return 1
	}
	w.rnd = rand.New(rand.NewPCG(w.plan.Seed, 0))
	if err := w.open(); err != nil {
		fmt.Println("failed", err)
		return 1
	}
	w.say(entry{What: saidReady})
	w.serve()
	return 0
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
