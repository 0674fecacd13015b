package claim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/tenant"
)

// Errors of this package. Their texts are those of a registry's calls.
var (
	// ErrClosed says that the owner was closed.
	ErrClosed = errors.New("registry is closed")
	// ErrPending says that a change is declared and was not acknowledged in time.
	ErrPending = errors.New("not acknowledged yet")
	// ErrFenced says that a newer registration of the same key took over.
	ErrFenced = errors.New("fenced by a newer registration of the same id")
	// ErrNotRegistered says that nothing is declared at a key.
	ErrNotRegistered = errors.New("not registered by this process")
	// ErrEnded is why a registration is over that was taken back.
	ErrEnded = fmt.Errorf("%w: it was taken back", ErrNotRegistered)
)

// Bucket is what an owner does in a bucket. A [tenant.Bucket] is one.
type Bucket interface {
	Disconnected() error
	Reconnected() (up <-chan nats.Status, stop func())
	Last(ctx context.Context, key string) (tenant.Entry, error)
	LastRevision(ctx context.Context) (uint64, error)
	Room(ctx context.Context, key string, size int) error
	Write(ctx context.Context, w tenant.Write) (revision uint64, err error)
	WriteAll(ctx context.Context, ws []tenant.Write) (revisions []uint64, errs []error)
}

// Registry is what an owner needs of the registry that it is a part of. No method is called with a
// lock held, except if its comment says so.
type Registry[T any] interface {
	// Lease returns the id of the lease that the process holds; empty if there is none.
	Lease() string
	// AwaitLease waits until the process holds a lease for a registration that says want.
	AwaitLease(ctx context.Context, key string, want *T) error
	// StartLease has a lease taken for a registration. It does not wait for the lease.
	StartLease(ctx context.Context, key string, want *T) error
	// Encode returns a key's value under a lease. It may call the user's signer.
	Encode(want *T, key, lease string) ([]byte, error)
	// Read says what stands at a key.
	Read(key string, e tenant.Entry) Kind
	// Lacks reports whether a current view shows that a key has no value.
	Lacks(key string) bool
	// Shows reports whether the process's look-ups show registrations like want.
	Shows(want *T) bool
	// Report is told what became of writes.
	Report(results []Result[T])
	// Forget is told of a key that no registration of this owner has any more.
	Forget(key string)
}

// Result is what became of one registration's write, or why it can't be made.
type Result[T any] struct {
	Of      *Registration[T]
	Want    T     // what was declared last
	Err     error // wraps ErrFenced if a newer owner took over
	Acked   bool  // one of its writes was acknowledged by now
	Waited  bool  // a call waits for it, and is told
	Missing bool  // its key was gone, and no sight had told
}

// Config says how an owner works.
type Config[T any] struct {
	Bucket   Bucket
	Registry Registry[T]
	Same     func(a, b *T) bool // reports whether they say the same; called with a lock held
	Signs    bool               // Encode calls the user's signer
	Check    time.Duration      // between two looks for keys that are missing
}

// Owner holds what a process declared. Its methods may be called by any number of goroutines.
type Owner[T any] struct {
	cfg  Config[T]
	bell chan struct{}  // rings when there is something to do for the loop; holds one
	wg   sync.WaitGroup // the loop's rounds and signatures

	mu     sync.Mutex // guards what follows, and the registrations with their layers and claims
	closed bool       // nothing is declared any more, and nothing written but deletes
	byKey  map[string]*Registration[T]
	// todo has each registration that there may be something to do for and that is not busy. The
	// loop takes out the others.
	todo    map[*Registration[T]]struct{}
	gone    []string // keys that no registration has any more
	anew    bool     // each registration is to be looked at, whatever failed before
	audits  bool     // the view is to be asked which it lacks
	layers  uint64   // number of the newest layer
	upTo    uint64   // the highest revision that the view saw in this life of the bucket
	under   string   // the lease at the loop's last pass
	flight  int      // registrations that are busy
	signing int      // signatures that the loop has under way
}

// NewOwner makes an owner. It does nothing before [Owner.Run].
func NewOwner[T any](cfg Config[T]) *Owner[T] {
	return &Owner[T]{
		cfg: cfg, bell: make(chan struct{}, 1),
		byKey: map[string]*Registration[T]{}, todo: map[*Registration[T]]struct{}{},
	}
}

// Registration is what this process declares at one key, until nothing of it is in the bucket or a
// newer owner has the key.
type Registration[T any] struct {
	Key   string
	First T // what was declared first
	last  T // and last

	// What is declared. Guarded by Owner.mu, as are all that follow.
	stack     []*layer[T] // the top is the last; none if it was taken back
	queue     []*Claim[T] // changes that wait for the top layer's calls; none if the stack is empty
	made      bool        // its key was made by Declare's caller, at random
	confirmed bool        // the last call that declared it returned without an error
	over      error       // if set, nothing of it changes any more: see finish
	held      int         // calls that look at it; it is forgotten when it is over and none look

	// What is known of the key.
	acked   bool   // a write of its own was acknowledged: another's above rev is newer
	unsure  bool   // !acked, and a write was neither acknowledged nor refused
	dated   bool   // since is known
	since   uint64 // a revision that the bucket had before the first write was sent
	rev     uint64 // what the next write goes on top of: its own last, if acked
	written uint64 // the number of the layer that stands at the key; 0 if that is not known
	lease   string // the lease that it stands under
	size    int    // of the largest value that there was room for
	seen    *Sight // what the view saw of it last
	look    bool   // the leader is to be asked what stands at the key,
	lacked  bool   // as an audit that tells found that the view lacks it

	// What the loop does about it.
	busy    bool      // a step is under way: what is seen is judged after it
	signs   bool      // the loop has it signed
	retry   time.Time // not before this
	tries   int       // that failed since the last success or call
	err     error     // of the last one
	mending bool      // it rests before it is written over what is no registration
	mended  time.Time // when that was last done

	changed bell.Broadcast // something about it changes
	told    told
}

// top is the layer that a registration declares; nil if it was taken back.
func (g *Registration[T]) top() *layer[T] {
	if len(g.stack) == 0 {
		return nil
	}
	return g.stack[len(g.stack)-1]
}

// declared reports whether a registration is neither over nor taken back.
func (g *Registration[T]) declared() bool { return g.over == nil && len(g.stack) > 0 }

// settled reports whether the key is thought to hold what is declared, under some lease.
func (g *Registration[T]) settled() bool {
	return g.declared() && g.acked && g.written == g.top().number
}

// due reports whether there is something to do about a registration while the process holds a
// lease.
func (g *Registration[T]) due(lease string) bool {
	return !g.settled() || g.lease != lease || g.look
}

// touch has the loop look at a registration.
func (o *Owner[T]) touch(g *Registration[T]) {
	o.todo[g] = struct{}{}
	bell.Ring(o.bell)
}

// finish ends a registration. err is ErrEnded, ErrFenced, or why its key is not deleted.
func (o *Owner[T]) finish(g *Registration[T], err error) {
	if g.over != nil {
		return
	}
	g.over, g.stack = err, nil
	o.advance(g)
	g.changed.Send()
	o.touch(g)
}

// Wake has the loop look at each registration, whatever failed before: there is a lease, or none
// any more, or the bucket can be used.
func (o *Owner[T]) Wake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.anew = true
	bell.Ring(o.bell)
}

// Shut ends what is declared: from now on Declare returns [ErrClosed], and nothing is written
// except deletes.
func (o *Owner[T]) Shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}

// Has reports whether a key has a registration.
func (o *Owner[T]) Has(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.byKey[key] != nil
}

// Get returns what is declared at a key, if anything is.
func (o *Owner[T]) Get(key string) *Registration[T] {
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.byKey[key]; g != nil && g.declared() {
		return g
	}
	return nil
}

// Declared returns the registrations that are declared and for which ok is true. ok is called with
// a lock held.
func (o *Owner[T]) Declared(ok func(want *T) bool) (list []*Registration[T]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range o.byKey {
		if g.declared() && ok(&g.top().want) {
			list = append(list, g)
		}
	}
	return list
}

// Each calls f with what each registration declares, and its key's last known revision. f is called
// with a lock held.
func (o *Owner[T]) Each(f func(want T, revision uint64, acked bool)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range o.byKey {
		if g.declared() {
			f(g.top().want, g.rev, g.acked)
		}
	}
}

// Want returns what a registration declares; what it declared first if it declares nothing now.
func (o *Owner[T]) Want(g *Registration[T]) T {
	o.mu.Lock()
	defer o.mu.Unlock()
	if top := g.top(); top != nil {
		return top.want
	}
	return g.First
}

// Unwritten returns how many registrations the bucket does not hold as they are declared, under the
// given lease.
func (o *Owner[T]) Unwritten(lease string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range o.byKey {
		if g.over == nil && g.due(lease) {
			n++
		}
	}
	return n
}
