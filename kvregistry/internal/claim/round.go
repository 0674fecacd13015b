package claim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kvregistry/go/tenant"
)

// Why a step has not done its write, besides what a bucket's errors say.
var (
	errMoved = errors.New("something else is declared, or it is there already") // not sent
	// nothing was written
	errAgain   = errors.New("another write came before it")
	errRest    = errors.New("it was written over a moment ago") // nothing was sent
	errGone    = errors.New("there is nothing of its own to delete")
	errStale   = errors.New("a leader of before answered; read again")
	errFull    = errors.New("no room beside what is being replaced") // in a cluster; try again
	errNoLease = errors.New("there is no lease yet")
)

// statusRoom is by how many bytes a value may grow without asking for room: a status is never
// refused.
const statusRoom = 32

// step is one write of one registration.
type step[T any] struct {
	g       *Registration[T]
	layer   *layer[T] // what is written; nil for a delete
	w       tenant.Write
	sent    bool
	missing bool // the key was found to be gone, and no sight had told
	rev     uint64
	err     error
}

// round does one write for each of some registrations. Each write is a compare-and-swap. The first
// one of a registration goes on top of what is older than its declaration: the newest registration
// wins. If its answer is lost, it is repeated on top of that, and of nothing else. Each later write
// goes on top of the registration's own last one. If a write is refused, what is there decides.
func (o *Owner[T]) round(ctx context.Context, steps []*step[T], lease string) {
	if err := o.cfg.Bucket.Disconnected(); err != nil { // what was not sent need not be taken back
		for _, st := range steps {
			st.err = err
		}
	} else {
		if lease != "" {
			o.date(ctx, steps)
		}
		each(o.those(steps, func(st *step[T]) bool {
			return st.err == nil && (st.g.look || st.layer == nil && !st.g.acked)
		}), func(st *step[T]) { st.err = o.resolve(ctx, st) })
		var sent []*step[T]
		for _, st := range steps {
			if st.err == nil {
				st.err = o.compose(ctx, st, lease)
			}
			if st.sent {
				sent = append(sent, st)
			}
		}
		o.send(ctx, sent)
		each(sent, func(st *step[T]) {
			if errors.Is(st.err, tenant.ErrConflict) {
				if st.err = o.resolve(ctx, st); st.err == nil {
					st.err = errAgain
				}
			}
		})
	}
	o.cfg.Registry.Report(o.settle(steps, lease))
}

// those are the steps for which ok is true.
func (o *Owner[T]) those(steps []*step[T], ok func(*step[T]) bool) (list []*step[T]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, st := range steps {
		if ok(st) {
			list = append(list, st)
		}
	}
	return list
}

// date finds out what is older than registrations, before their first write: a later answer would
// not tell what came before that write from what came after it.
func (o *Owner[T]) date(ctx context.Context, steps []*step[T]) {
	dates := o.those(steps, func(st *step[T]) bool {
		return st.layer != nil && !st.g.acked && !st.g.dated
	})
	var since, rev uint64
	var err error
	switch len(dates) {
	case 0:
	case 1:
		var e tenant.Entry
		e, err = o.cfg.Bucket.Last(ctx, dates[0].g.Key)
		since, rev = e.Revision, e.Revision
	default: // what the bucket holds by now is older than they are
		since, err = o.cfg.Bucket.LastRevision(ctx)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, st := range dates {
		if st.err = err; err == nil {
			st.g.dated, st.g.since, st.g.rev = true, since, rev
		}
	}
}

// compose makes a step's write, if there is room for it and it is still to be done.
func (o *Owner[T]) compose(ctx context.Context, st *step[T], lease string) (err error) {
	g := st.g
	switch {
	case st.layer == nil:
		st.w.Op = tenant.Delete
	case lease == "":
		err = cmp.Or(o.cfg.Registry.StartLease(ctx, g.Key, &st.layer.want), errNoLease)
	case !o.cfg.Signs:
		st.w.Value, err = o.cfg.Registry.Encode(&st.layer.want, g.Key, lease)
	}
	if size := len(st.w.Value); err == nil && size > g.size+statusRoom {
		if err = o.cfg.Bucket.Room(ctx, g.Key, size); err == nil {
			g.size = size
		}
	}
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if g.over != nil || g.top() != st.layer || !g.due(lease) {
		return errMoved
	}
	st.sent, st.w.If = true, tenant.At(g.rev)
	return nil
}

// send does the writes.
func (o *Owner[T]) send(ctx context.Context, steps []*step[T]) {
	if len(steps) == 1 {
		steps[0].rev, steps[0].err = o.cfg.Bucket.Write(ctx, steps[0].w)
		return
	}
	ws := make([]tenant.Write, len(steps))
	for i, st := range steps {
		ws[i] = st.w
	}
	revs, errs := o.cfg.Bucket.WriteAll(ctx, ws)
	for i, st := range steps {
		st.rev, st.err = revs[i], errs[i]
	}
}

// resolve looks at what stands at a step's key. See met.
func (o *Owner[T]) resolve(ctx context.Context, st *step[T]) error {
	e, err := o.cfg.Bucket.Last(ctx, st.g.Key)
	if err != nil {
		return err
	}
	kind := o.cfg.Registry.Read(st.g.Key, e)
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.met(st, e, kind)
}

// settle takes what became of steps.
func (o *Owner[T]) settle(steps []*step[T], lease string) (results []Result[T]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, st := range steps {
		g := st.g
		r := Result[T]{Of: g, Want: g.last, Missing: st.missing, Waited: g.held > 0}
		if st.layer != nil {
			r.Waited = st.layer.waiting > 0
		}
		g.busy = false
		o.flight--
		if st.err == nil {
			o.wrote(st, lease)
		} else {
			o.failed(st)
		}
		o.judge(g)
		o.uncover(g)
		g.changed.Send()
		o.touch(g)
		r.Err, r.Acked = st.err, g.acked
		results = append(results, r)
	}
	return results
}

// wrote notes that a step was done.
func (o *Owner[T]) wrote(st *step[T], lease string) {
	g := st.g
	g.rev, g.acked, g.unsure, g.tries, g.err = st.rev, true, false, 0, nil
	if st.layer == nil {
		o.deleted(g)
		return
	}
	g.written, g.lease = st.layer.number, lease
	st.layer.acks++
	st.layer.draft, st.layer.drafted = nil, ""
}

// deleted notes that nothing of a registration is in the bucket. If it was declared again
// meanwhile, it is written on top of that.
func (o *Owner[T]) deleted(g *Registration[T]) {
	if g.written = 0; len(g.stack) == 0 {
		o.finish(g, ErrEnded)
	}
}

// failed takes why a step was not done.
func (o *Owner[T]) failed(st *step[T]) {
	g, err := st.g, st.err
	stays := tenant.Permanent(err)
	switch {
	case errors.Is(err, errMoved), errors.Is(err, errRest):
	case errors.Is(err, errGone):
		o.deleted(g)
	case errors.Is(err, ErrFenced):
		o.finish(g, ErrFenced)
	case stays && st.sent && g.acked && errors.Is(err, tenant.ErrStorageFull):
		o.fail(g, fmt.Errorf("%w: %v", errFull, err))
	case stays && st.layer == nil && !errors.Is(err, tenant.ErrStorageFull):
		o.finish(g, fmt.Errorf("not deleted, it goes when this registry is closed: %w", err))
	case stays:
		if o.fail(g, err); st.layer != nil && st.layer.waiting > 0 {
			o.refuse(g, st.layer, err)
		}
	default:
		// it may have been done, or may be yet
		if st.sent && !errors.Is(err, errStale) && !errors.Is(err, errAgain) {
			g.unsure, g.written = !g.acked, 0
		}
		o.fail(g, err)
	}
}

// each calls f for each of a list, many at once.
func each[E any](list []E, f func(E)) {
	var wg sync.WaitGroup
	gate := make(chan struct{}, 64)
	for _, one := range list {
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			f(one)
		})
	}
	wg.Wait()
}
