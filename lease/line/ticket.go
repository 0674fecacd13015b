package line

import (
	"time"

	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// ticket is a place in a name's line: a key that this process writes once.
type ticket struct {
	name  string // empty if the key is only to be removed
	key   string
	lease *lease.Lease  // nil if it is not known
	waits bool          // the log says that it waits; the caller's own
	once  bool          // its first write was acknowledged; the caller's own, like waits
	moved chan struct{} // rings when it was seen, may be the first, or is over; holds one
	left  chan struct{} // closed when nothing is left to do about its key

	// Guarded by Lines.mu.
	place uint64    // its key's revision, once the view has shown it
	gone  bool      // its key was removed or overwritten, or went with the bucket
	err   error     // why its key could not be removed
	since time.Time // when it was made, or its turn came; zero after it was given up
	held  bool      // its turn came
}

func newTicket(key string) *ticket {
	return &ticket{key: key, moved: make(chan struct{}, 1), left: make(chan struct{})}
}

func (t *ticket) wake() { bell.Ring(t.moved) }

// longest is how many bytes a ticket's value has at most.
const longest = 4 << 10

// readOf reports whether the value at a key has a place in the line. A ticket of a newer format has
// one. Other bytes have none, because no lease would ever end them. owner is empty if it is not
// known.
func readOf(ch watcher.Change) (stands bool, owner string) {
	if ch.Op != tenant.Put {
		return false, ""
	}
	h, ok := ch.Read.(wire.Head)
	if !ok {
		h = wire.HeadOf(ch.Value)
	}
	if h.Format > wire.Format {
		h.Owner = ""
	}
	return h.Lives(), h.Owner
}

// standing is how a ticket stands at one moment.
type standing struct {
	place uint64    // 0 if its key was not seen yet
	ahead int       // how many stand before it
	over  error     // why it stands no more: errGone or Config.Closed
	from  time.Time // when it may hold the name at the earliest
}

// standing returns how a ticket stands. After the bucket was recreated nobody holds a name for a
// TTL, because a holder from before may not know yet.
func (ls *Lines) standing(t *ticket) (s standing) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	s.place, s.over, s.ahead = t.place, ls.why(t), ls.ahead(t)
	if !ls.remade.IsZero() {
		s.from = ls.remade.Add(ls.cfg.TTL)
	}
	return s
}

// ahead is how many stand before a ticket. The caller holds ls.mu.
func (ls *Lines) ahead(t *ticket) (n int) {
	for _, place := range ls.places[tenant.Siblings(t.key)] {
		if place < t.place {
			n++
		}
	}
	return n
}

// over is why a ticket stands no more, nil while it stands.
func (ls *Lines) over(t *ticket) error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.why(t)
}

// why is over for a caller that holds ls.mu.
func (ls *Lines) why(t *ticket) error {
	switch {
	case ls.closed:
		return ls.cfg.Closed
	case t.gone:
		return errGone
	}
	return nil
}
