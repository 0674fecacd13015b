package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// errEnded is why a registration is over that its owner took back.
var errEnded = fmt.Errorf("%w: it was taken back", ErrNotRegistered)

// errStale says that a read came from a leader that was deposed, behind a write that was refused.
var errStale = errors.New("a leader of before answered; read again")

// tries bounds how often one write is done anew on top of what stands in its way.
const tries = 8

// rivalCurve is the time between two of these writes.
var rivalCurve = backoff.Curve{Least: 10 * time.Millisecond, Most: 2 * time.Second}

// put writes what a registration declares, under a lease. Its turn is the caller's.
//
// Each write is a compare-and-swap. The first one goes on top of whatever stands there: the newest
// registration of an id wins. If its answer is lost, it is done again on top of what is known to be
// older, and of nothing else. Each later write goes on top of the registration's own last one. If a
// write is refused, what is there decides: a write of its own whose answer was lost, nothing at
// all, or a newer owner's registration, by which it is fenced.
func (r *Registry) put(ctx context.Context, g *registration, lease string) error {
	last := tenant.ErrConflict
	for n := range tries { // the last comes a second and a half after the first
		w, acked, err := r.compose(ctx, g, lease)
		if err != nil {
			return err
		}
		rev, err := r.write(ctx, w)
		switch {
		case errors.Is(err, tenant.ErrConflict):
			if err = r.resolve(ctx, g); err == nil || errors.Is(err, errGone) {
				continue
			}
		case err != nil && !tenant.Permanent(err):
			r.own.unanswered(g)
		}
		if err == nil {
			r.own.written(g, rev, lease)
			return nil
		}
		r.own.failed(g)
		switch {
		case errors.Is(err, tenant.ErrConflict), errors.Is(err, errStale):
			last = err
		case acked && errors.Is(err, tenant.ErrStorageFull):
			last = fmt.Errorf("%w: %v", errCrowded, err)
		default:
			return err
		}
		if err := backoff.Sleep(ctx, rivalCurve.Within(n)); err != nil {
			return err
		}
	}
	r.own.failed(g)
	return fmt.Errorf("key %s: %w", g.key, last)
}

// crowd is how many single requests for registrations wait for the server at once.
const crowd = 256

// inCrowd sends a request when there is a place for it in the crowd. A request that waits for longer
// than an attempt may take is sent again. Of thousands at once all would be, before the server had
// come to the first ones, and they would never end.
func (r *Registry) inCrowd(ctx context.Context, send func() error) error {
	select {
	case r.crowd <- struct{}{}:
		defer func() { <-r.crowd }()
		return send()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write writes a registration's key, in the crowd.
func (r *Registry) write(ctx context.Context, w tenant.Write) (revision uint64, err error) {
	err = r.inCrowd(ctx, func() error {
		revision, err = r.bucket.Write(ctx, w)
		return err
	})
	return revision, err
}

// compose is a registration's next write, for which there is room and a connection. acked says that
// one was acknowledged before.
func (r *Registry) compose(
	ctx context.Context, g *registration, lease string,
) (w tenant.Write, acked bool, err error) {
	if err := r.date(ctx, g); err != nil {
		return w, false, err
	}
	next, err := r.own.writing(g, lease)
	if err != nil {
		return w, false, err
	}
	value := next.value
	if value == nil {
		value, err = r.encode(next.service, g.key, lease)
	}
	if err == nil {
		err = r.bucket.Disconnected() // what was not sent need not be taken back
	}
	if err == nil {
		err = r.admit(ctx, g, len(value))
	}
	if err == nil {
		err = r.own.sends(g)
	}
	if err != nil {
		r.own.failed(g)
		return w, false, err
	}
	return tenant.Write{Key: g.key, Value: value, If: tenant.At(next.rev)}, next.acked, nil
}

// date finds out what is older than a registration, before its first write: what stands at its key.
// A later answer would not tell what came before that write from what came after it.
func (r *Registry) date(ctx context.Context, g *registration) error {
	if !r.own.undated(g) {
		return nil
	}
	return r.inCrowd(ctx, func() error {
		e, err := r.bucket.Last(ctx, g.key)
		if err == nil {
			r.own.date(g, e.Revision, e.Revision)
		}
		return err
	})
}

// dateTogether is date for many: what the bucket holds by now is older than they are. If it can't
// be had, each is left to date.
func (r *Registry) dateTogether(ctx context.Context, list []*registration) {
	if !slices.ContainsFunc(list, r.own.undated) {
		return
	}
	if since, err := r.bucket.LastRevision(ctx); err == nil {
		for _, g := range list {
			r.own.date(g, since, 0)
		}
	}
}

// putTogether is a first try of put for many, for less than each of them alone. It returns what each came to.
func (r *Registry) putTogether(ctx context.Context, list []*registration, lease string) []error {
	errs := make([]error, len(list))
	var ws []tenant.Write
	var of []int
	r.dateTogether(ctx, list)
	for i, g := range list {
		w, _, err := r.compose(ctx, g, lease)
		if errs[i] = err; err == nil {
			ws, of = append(ws, w), append(of, i)
		}
	}
	revs, failed := r.bucket.WriteAll(ctx, ws)
	for j, i := range of {
		if errs[i] = failed[j]; errs[i] == nil {
			r.own.written(list[i], revs[j], lease)
			continue
		}
		r.own.failed(list[i])
		if !errors.Is(errs[i], tenant.ErrConflict) && !tenant.Permanent(errs[i]) {
			r.own.unanswered(list[i])
		}
	}
	return errs
}

// errCrowded is why a registration can't replace its own yet: in a cluster what is being written needs room beside what it replaces, and so do others that are. It
// is no reason to give up, as a full bucket is for what is new.
var errCrowded = errors.New("no room beside what is being replaced")

// statusRoom is by how many bytes a registration may grow without asking: a status is never refused.
const statusRoom = 32

// admit asks for room for a registration that is new, or that grows.
func (r *Registry) admit(ctx context.Context, g *registration, size int) error {
	if size > r.own.admitted(g)+statusRoom {
		if err := r.bucket.Room(ctx, g.key, size); err != nil {
			return err
		}
		r.own.admit(g, size)
	}
	return nil
}

// errGone says that a registration's key has no value.
var errGone = errors.New("the key has no value")

// resolve looks at what a refused write met. It returns nil where the write can be done on top of it, and errGone where that
// is the end of a key that it knew.
func (r *Registry) resolve(ctx context.Context, g *registration) error {
	e, err := r.bucket.Last(ctx, g.key)
	if err != nil {
		return err
	}
	s := r.sightUpTo(watcher.Change{Key: g.key, Value: e.Value, Revision: e.Revision, Op: e.Op}, len(e.Value)) // a newer owner's MaxRecord may be larger
	if e.Revision == 0 {
		s.Op = tenant.Purge
	}
	fenced, err := r.own.met(r.id, g, s)
	if fenced != nil {
		r.tellFenced(*fenced)
	}
	return err
}

// remove deletes a registration's key, if it is still its own. Its turn is the caller's.
//
// Where a write's answer was lost, it may be under way yet, and no read tells: a delete on top of what stands there, be it nothing,
// comes behind it, and is refused if it came.
func (r *Registry) remove(ctx context.Context, g *registration) error {
	for range tries {
		rev, known, done := r.own.removing(g)
		if done {
			return nil
		}
		var err error
		if !known {
			if err = r.resolve(ctx, g); err == nil {
				if rev, _, done = r.own.removing(g); done { // a newer one of the same id, here
					return nil
				}
			}
		}
		if err == nil {
			rev, err = r.write(ctx, tenant.Write{Key: g.key, Op: tenant.Delete, If: tenant.At(rev)})
		}
		if errors.Is(err, tenant.ErrConflict) {
			if err = r.resolve(ctx, g); err == nil {
				continue
			}
		}
		switch {
		case err == nil, errors.Is(err, errGone):
			r.own.ended(g, rev)
			return nil
		case !errors.Is(err, errStale):
			return err
		}
		if err := backoff.Sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("key %s: %w", g.key, tenant.ErrConflict)
}

// at once is how many registrations of one process are written at the same time.
const atOnce = 64

// each is all with the errors joined.
func each[T any](list []T, f func(T) error) error {
	return errors.Join(all(list, f)...)
}

// all does f for every one of a list, many at once, and returns what each came to. If one of them
// panics, or ends its goroutine, that happens to the caller's goroutine when all are through: a
// user's function may be called below.
func all[T any](list []T, f func(T) error) []error {
	errs, ends := make([]error, len(list)), make([]func() error, len(list))
	gate := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, one := range list {
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			catch(func() error { return f(one) }, func(end func() error) { ends[i] = end })
		})
	}
	wg.Wait()
	for i, end := range ends {
		errs[i] = end()
	}
	return errs
}

// catch calls f, and then done with a function that has the same end on another goroutine: it
// returns f's error, panics as f did, or ends the goroutine.
func catch(f func() error, done func(end func() error)) {
	end := func() error { runtime.Goexit(); return nil }
	defer func() {
		if p := recover(); p != nil {
			end = func() error { panic(p) }
		}
		done(end)
	}()
	err := f()
	end = func() error { return err }
}

// reconcileCurve is the time between two tries of reconcile.
var reconcileCurve = backoff.Curve{Least: 25 * time.Millisecond, Most: time.Second}

// reconcile keeps the bucket at what was declared: after a lease was lost or a key vanished, and for what could
// not be written when it was asked for. It ends with the registry.
func (r *Registry) reconcile() {
	retry, look := time.NewTimer(0), time.NewTicker(r.opt.checkTime())
	defer retry.Stop()
	defer look.Stop()
	for failures := 0; ; {
		wait := time.Duration(0)
		select {
		case <-r.ctx.Done():
			return
		case <-r.own.wake:
		case <-retry.C:
		case <-look.C:
			if !r.audit() {
				continue
			}
		}
		if r.closed.Load() {
			continue // Close takes everything back itself
		}
		switch err := r.reconcileOnce(); {
		case err == nil:
			failures = 0
			continue
		case errors.Is(err, tenant.ErrPermission):
			wait = tenant.RefusedTime
		default:
			wait = reconcileCurve.After(failures)
			failures++
		}
		retry.Reset(wait)
	}
}

// audit looks whether the view, while it is current, shows each registration that is thought to be in the bucket. One that it lacks twice, a TTL
// or 15 s apart, is to be written again, which it reports: what is seen of a key says so at once, and this is for what no sight told.
func (r *Registry) audit() (found bool) {
	if age := r.age(); age < 0 || age > r.opt.currentAge() {
		return false
	}
	for _, g := range r.own.open() {
		if rev, ok := r.own.settled(g); ok && r.own.lacked(g, rev, r.view.Lacks(g.key)) {
			found = true
			r.log.Warn("kvregistry: a registration was found to be missing, writing it again", "service", journal.Plain(g.name), "instance", journal.Plain(g.id))
		}
	}
	return found
}

func (r *Registry) reconcileOnce() error {
	if !r.own.any() {
		return nil
	}
	err := r.awaitReady(r.closing)
	if err == nil {
		err = r.bucket.AwaitConnected(r.closing)
	}
	if err != nil {
		return err
	}
	id := ""
	if l := r.keeper.Current(); l != nil {
		id = l.ID
	} else if err := r.startLease(); err != nil {
		return err
	}
	write, forget := r.own.due(id)
	for _, g := range forget {
		if !r.own.forget(g) {
			continue
		}
		r.view.Unwatch(g.key)
		if r.own.has(g.key) { // it was declared again meanwhile
			r.view.WatchSoon(g.key)
		}
	}
	errs := all(write, func(g *registration) error { return r.reconcileOne(g, id) })
	r.tellNewsLater(write)
	r.tellRefused(write, errs)
	return errors.Join(errs...)
}

// tellRefused logs that the server refuses what is written in the background: once, until a round
// of writes is not refused.
func (r *Registry) tellRefused(list []*registration, errs []error) {
	var refused []*registration
	var why error
	for i, err := range errs {
		if refuses(err) {
			refused, why = append(refused, list[i]), err
		}
	}
	was := r.refusing
	if r.refusing = why != nil; !r.refusing || was {
		return
	}
	args := append(subject(refused), "cause", journal.Plain(why.Error()))
	r.log.Warn("kvregistry: the server refuses what this process registers, asking again", args...)
}

// startLease takes a lease where a registration is let in that needs one. Its grant wakes reconcile.
func (r *Registry) startLease() (err error) {
	for _, g := range r.own.those((*registration).declared) {
		if err = r.admitLease(r.ctx, g); err == nil {
			r.keeper.Start()
			break
		}
	}
	return err
}

func (r *Registry) reconcileOne(g *registration, lease string) error {
	ctx, cancel := context.WithTimeout(r.closing, writeTime)
	defer cancel()
	r.sign(ctx, g)
	select {
	case <-g.turn:
	default:
		return nil // somebody is at it
	}
	defer r.release(g)
	var err error
	if r.own.isEnding(g) {
		if err = r.remove(ctx, g); tenant.Permanent(err) && !errors.Is(err, tenant.ErrStorageFull) {
			r.own.refused(g, err)
			err = nil
		}
	} else if err = r.put(ctx, g, lease); err != nil {
		r.own.notWritten(g, err)
	}
	if errors.Is(err, ErrFenced) || errors.Is(err, errEnded) {
		return nil
	}
	return err
}
