package line

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// errGone says that a ticket lost its place.
var errGone = errors.New("the ticket has no place any more")

// Config says how the lines of a registry are. All fields are needed.
type Config struct {
	Owner   string        // the registry's id, in the values of its tickets
	TTL     time.Duration // of the process's lease
	Check   time.Duration // between two looks for what no message told of
	View    watcher.Config
	Journal *journal.Journal

	Closed  error // what the errors wrap after Close
	Pending error // what a Release wraps that was not acknowledged in time
}

// Lines are the lines that this process stands in. All methods may be called by any number of
// goroutines.
type Lines struct {
	cfg    Config
	bucket *tenant.Bucket
	keeper *lease.Keeper
	view   *watcher.View // has a consumer of its own, from the first Hold on
	log    *slog.Logger
	crowd  chan struct{}   // has a place for each write that is under way
	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	wg     sync.WaitGroup // the goroutines that remove keys

	mu      sync.Mutex // guards what follows, and the tickets
	started bool
	closed  bool
	places  map[string]map[string]uint64 // the revisions of a line's keys
	tickets map[string]*ticket           // this process's own, by key
	remade  time.Time                    // when the bucket was last seen to be recreated
}

// New makes lines. They cost nothing before the first [Lines.Hold].
func New(b *tenant.Bucket, k *lease.Keeper, cfg Config) *Lines {
	ls := &Lines{
		cfg: cfg, bucket: b, keeper: k, log: cfg.Journal.Logger(),
		crowd:  make(chan struct{}, crowd),
		places: map[string]map[string]uint64{}, tickets: map[string]*ticket{},
	}
	ls.ctx, ls.cancel = context.WithCancel(context.Background())
	cfg.View.Apply, cfg.View.MaxValue = ls.see, longest
	cfg.View.Read = func(ch watcher.Change) any { return wire.HeadOf(ch.Value) }
	cfg.View.Logger = ls.log.With("of", "exclusive names")
	ls.view = watcher.New(b, cfg.View)
	return ls
}

// watch has the view show a line until Stop, and waits until the view shows it.
func (ls *Lines) watch(ctx context.Context, filter string) error {
	ls.mu.Lock()
	switch {
	case ls.closed:
		ls.mu.Unlock()
		return ls.cfg.Closed
	case !ls.started:
		ls.started = true
		ls.view.Start() // ends with its Close, which Stop calls
	}
	ls.mu.Unlock()
	ls.view.Watch(filter)
	return ls.view.Wait(ctx, filter)
}

// enter makes a ticket. Nothing is written yet.
func (ls *Lines) enter(name, key string, l *lease.Lease) (*ticket, error) {
	t := newTicket(key)
	t.name, t.lease, t.since = name, l, time.Now()
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		return nil, ls.cfg.Closed
	}
	ls.tickets[t.key] = t
	return t, nil
}

// granted notes that a ticket's turn has come, and returns its place.
func (ls *Lines) granted(t *ticket) uint64 {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	t.held, t.since = true, time.Now()
	return t.place
}

// giveUp notes that nobody wants a ticket any more, so that Health leaves it out.
func (ls *Lines) giveUp(t *ticket) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	t.since = time.Time{}
}

// forget drops a ticket whose key is gone or can't be removed. The first err counts.
func (ls *Lines) forget(t *ticket, err error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.tickets[t.key] == t {
		delete(ls.tickets, t.key)
		t.err = err
		close(t.left)
	}
}

// stands reports whether a ticket's key is known to be written, under a lease that may live.
func (ls *Lines) stands(t *ticket) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return (t.once || t.place > 0) && (t.lease == nil || t.lease.Err() == nil)
}

// Health is a name that a process holds exclusively, or a place that it has in the line for one.
type Health struct {
	Name  string
	Token uint64    // the fencing token; 0 while it waits
	Since time.Time // when its turn came, or, while it waits, when it took its place
	Ahead int       // how many stand before it in the line; 0 if its place is not known yet
}

// Health returns what is held and waited for, by name and age. It reads memory only.
func (ls *Lines) Health() (list []Health) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, t := range ls.tickets {
		if h := (Health{Name: t.name, Since: t.since}); !t.since.IsZero() && ls.why(t) == nil {
			if t.held {
				h.Token = t.place
			}
			h.Ahead = ls.ahead(t)
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(a, b Health) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Since.Compare(b.Since))
	})
	return list
}

// see takes what the view saw. It removes tickets of this process that stand in line again: a
// server that was killed may bring back a deleted key, and the process's lease would keep it there.
func (ls *Lines) see(changes []watcher.Change, snapshot *watcher.Snapshot) {
	for _, t := range ls.apply(changes, snapshot) {
		ls.removeLater(t, nil)
	}
	if snapshot != nil && snapshot.Reset {
		ls.keeper.Check()
	}
}

// apply takes what the view saw. It returns tickets of this process that have left and stand again.
func (ls *Lines) apply(changes []watcher.Change, snapshot *watcher.Snapshot) (strays []*ticket) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if snapshot != nil && snapshot.Reset {
		ls.remade = time.Now()
		for _, t := range ls.tickets {
			t.gone = true
			t.wake()
		}
	}
	touched := map[string]struct{}{} // lines
	for _, ch := range changes {
		stands, owner := readOf(ch)
		ls.change(ch, stands)
		touched[tenant.Siblings(ch.Key)] = struct{}{}
		if owner == ls.cfg.Owner && ls.tickets[ch.Key] == nil && !ls.closed {
			t := newTicket(ch.Key)
			t.place, t.gone = ch.Revision, true
			ls.tickets[t.key] = t
			strays = append(strays, t)
		}
	}
	for line := range touched {
		ls.wakeFirst(line)
	}
	return strays
}

// change takes one change. The caller holds ls.mu.
func (ls *Lines) change(ch watcher.Change, stands bool) {
	line := tenant.Siblings(ch.Key)
	if stands {
		if ls.places[line] == nil {
			ls.places[line] = map[string]uint64{}
		}
		ls.places[line][ch.Key] = ch.Revision
	} else if delete(ls.places[line], ch.Key); len(ls.places[line]) == 0 {
		delete(ls.places, line)
	}
	if t := ls.tickets[ch.Key]; t != nil {
		t.gone = t.gone || ch.Op != tenant.Put || t.place != 0 // a ticket is written once
		t.place = ch.Revision
		t.wake()
	}
}

// wakeFirst wakes the first of a line if it is this process's own. Others have nothing to do. The
// caller holds ls.mu.
func (ls *Lines) wakeFirst(line string) {
	first, least := "", uint64(0)
	for key, place := range ls.places[line] {
		if first == "" || place < least {
			first, least = key, place
		}
	}
	if t := ls.tickets[first]; t != nil {
		t.wake()
	}
}

// Restart notes that another view saw that the bucket was recreated.
func (ls *Lines) Restart() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.remade = time.Now()
}

// Close ends all that this process holds, and waits until its tickets' keys are removed. The error
// wraps Config.Pending and ctx's if ctx ended first.
func (ls *Lines) Close(ctx context.Context) error {
	ls.mu.Lock()
	ls.closed = true
	var list []*ticket
	for _, t := range ls.tickets {
		list = append(list, t)
		t.wake()
	}
	ls.mu.Unlock()
	for _, t := range list {
		if err := ls.await(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// await waits until a ticket's key is removed.
func (ls *Lines) await(ctx context.Context, t *ticket) error {
	select {
	case <-t.left:
		ls.mu.Lock()
		defer ls.mu.Unlock()
		return t.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %s is removed as soon as NATS answers: %w", ls.cfg.Pending, t.key,
			ctx.Err())
	}
}

// Stop ends the view and the removal of keys after Close. The keys that are left go with the lease.
func (ls *Lines) Stop() {
	ls.mu.Lock()
	ls.cancel()
	ls.mu.Unlock()
	ls.view.Close()
	ls.wg.Wait()
}
