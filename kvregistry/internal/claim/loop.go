package claim

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/tenant"
)

const (
	// crowd is how many registrations are written at once. A request that waits for longer than an
	// attempt may take is sent again; of thousands at once all would be, and they would never end.
	crowd = 1024
	// together is how many of them are one round at most, whose answers are waited for together.
	together = 256
	// signers is how many signatures the loop has made at once.
	signers = 64
	// quick is how many writes that were refused in a row are repeated at once, on top of what
	// refused them.
	quick = 8
)

// The time between two tries: of what a call waits for, and of what none does.
var (
	callCurve = backoff.Curve{Least: 10 * time.Millisecond, Most: 250 * time.Millisecond}
	curve     = backoff.Curve{Least: 25 * time.Millisecond, Most: time.Second}
)

// Run keeps the bucket at what is declared, and is the only writer of registrations. It ends with
// ctx, when its rounds have ended.
func (o *Owner[T]) Run(ctx context.Context) {
	up, stop := o.cfg.Bucket.Reconnected()
	defer stop()
	look := time.NewTicker(o.cfg.Check)
	defer look.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer o.wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.bell:
		case <-timer.C:
		case <-up:
			o.Wake()
		case <-look.C:
			o.audit(true)
			o.touchAll()
		}
		timer.Reset(o.pass(ctx))
	}
}

// touchAll has the next pass look at each registration.
func (o *Owner[T]) touchAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range o.byKey {
		o.todo[g] = struct{}{}
	}
}

// pass begins what there is to do, and returns when it has to look again.
func (o *Owner[T]) pass(ctx context.Context) time.Duration {
	lease := o.cfg.Registry.Lease()
	o.mu.Lock()
	audits, next := o.audits, time.Hour
	o.refresh(lease)
	var steps []*step[T]
	for g := range o.todo {
		if rest := time.Until(g.retry); rest > 0 && g.over == nil {
			next = min(next, rest)
		} else if o.ready(g, lease) {
			steps = append(steps, o.begin(g))
		}
	}
	gone := o.gone
	o.gone, o.audits = nil, false
	o.mu.Unlock()
	for _, key := range gone {
		o.cfg.Registry.Forget(key)
	}
	if audits {
		o.audit(false)
	}
	for some := range slices.Chunk(steps, together) {
		o.wg.Go(func() { o.round(ctx, some, lease) })
	}
	return next
}

// refresh has each registration looked at, if the lease is another, or something else may be
// possible now that was not.
func (o *Owner[T]) refresh(lease string) {
	if !o.anew && lease == o.under {
		return
	}
	o.anew, o.under = false, lease
	for _, g := range o.byKey {
		g.retry = time.Time{}
		o.todo[g] = struct{}{}
		g.changed.Send() // a call that waits may need another lease, or another signature
	}
}

// ready reports whether a registration's next step can be begun. It sees to what keeps it from
// that.
func (o *Owner[T]) ready(g *Registration[T], lease string) bool {
	top := g.top()
	unsigned := o.cfg.Signs && top != nil && top.drafted != lease
	switch {
	case g.over != nil && g.held == 0 && o.byKey[g.Key] == g:
		delete(o.byKey, g.Key)
		o.gone = append(o.gone, g.Key)
	case g.busy, g.over != nil, !g.due(lease), top != nil && o.closed:
	case top != nil && top.waiting > 0 && (lease == "" || unsigned):
		g.changed.Send() // the call sees to it
	case lease != "" && unsigned && !g.signs && o.signing < signers:
		o.signAlone(g, top, lease)
	case lease != "" && unsigned || o.flight == crowd:
		return false // it stays in todo: what ends rings
	default:
		return true
	}
	delete(o.todo, g)
	return false
}

// begin begins a registration's next write.
func (o *Owner[T]) begin(g *Registration[T]) *step[T] {
	g.busy = true
	o.flight++
	delete(o.todo, g)
	st := &step[T]{g: g, layer: g.top(), w: tenant.Write{Key: g.Key}}
	if st.layer != nil {
		st.w.Value = st.layer.draft
	}
	return st
}

// signAlone has a layer signed that no call waits for. Nothing else waits for the signer.
func (o *Owner[T]) signAlone(g *Registration[T], l *layer[T], lease string) {
	o.signing++
	g.signs = true
	o.wg.Go(func() {
		defer func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.signing--
			g.signs = false
			o.touch(g)
		}()
		o.sign(g, l, lease)
	})
}

// sign makes a layer's draft. It is called with no lock held: the signer is the user's.
func (o *Owner[T]) sign(g *Registration[T], l *layer[T], lease string) {
	var value []byte
	err := errors.New("the signer did not return")
	defer func() { // even if the signer panics, or ends its goroutine
		o.mu.Lock()
		defer o.mu.Unlock()
		if err == nil {
			l.draft, l.drafted = value, lease
		} else {
			o.fail(g, err)
		}
		o.touch(g)
	}()
	value, err = o.cfg.Registry.Encode(&l.want, g.Key, lease)
}

// fail notes why a registration could not be written, and when the loop tries it again.
func (o *Owner[T]) fail(g *Registration[T], err error) {
	rest := curve.After(g.tries)
	if top := g.top(); top != nil && top.waiting > 0 {
		rest = callCurve.After(g.tries)
	}
	switch g.tries++; {
	case errors.Is(err, tenant.ErrPermission):
		rest = tenant.RefusedTime
	case errors.Is(err, errAgain) && g.tries%quick > 0:
		rest = 0
	case errors.Is(err, errAgain):
		rest = curve.Least
	}
	g.err, g.retry = err, time.Now().Add(rest)
}
