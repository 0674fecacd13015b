package claim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kvregistry/go/tenant"
)

// Declaration is what a call declares at a key.
type Declaration[T any] struct {
	Key  string
	Want T
	// Over changes Want if the key is declared already. It may be nil.
	Over func(declared T) T
	// Like is not nil if the key was made at random. It reports whether a registration says the
	// same with a key of its own: one that no call has returned without an error is taken instead.
	Like func(declared *T) bool
}

// Declare declares registrations, all or none, and returns a claim for each. If one of the key
// exists, that declares the same from now on, and the claims of earlier calls with other content
// are fenced. The error is [ErrClosed]. The functions of a declaration are called with a lock held.
func (o *Owner[T]) Declare(list ...Declaration[T]) ([]*Claim[T], error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, ErrClosed
	}
	claims := make([]*Claim[T], len(list))
	for i, d := range list {
		claims[i] = o.declare(d)
	}
	return claims, nil
}

func (o *Owner[T]) declare(d Declaration[T]) *Claim[T] {
	if g := o.pending(d); g != nil {
		c := &Claim[T]{Registration: g}
		o.join(c, g.top())
		return c
	}
	g := o.byKey[d.Key]
	c := &Claim[T]{Registration: g}
	if g == nil || g.over != nil {
		g = &Registration[T]{
			Key: d.Key, First: d.Want, made: d.Like != nil,
			dated: d.Like != nil, // nothing can stand at a key that was made at random
		}
		o.byKey[d.Key] = g
		c.Registration, c.Fresh = g, true
	}
	top := g.top()
	if top != nil && d.Over != nil {
		d.Want = d.Over(top.want)
	}
	if top == nil || !o.cfg.Same(&top.want, &d.Want) {
		top = o.push(g, d.Want, nil)
	}
	o.join(c, top)
	return c
}

// pending is the registration that a declaration with a key made at random is taken for.
func (o *Owner[T]) pending(d Declaration[T]) *Registration[T] {
	if d.Like == nil {
		return nil
	}
	for _, g := range o.byKey {
		if g.made && !g.confirmed && g.declared() && g.top().waiting == 0 && d.Like(&g.top().want) {
			return g
		}
	}
	return nil
}

// Change has a registration say something else, in its turn. change is called with a lock held, and
// perhaps later.
func (o *Owner[T]) Change(g *Registration[T], change func(T) (T, error)) *Claim[T] {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &Claim[T]{Registration: g, change: change}
	g.queue = append(g.queue, c)
	o.advance(g)
	return c
}

// Claim returns a claim to what a registration declares now, for End alone.
func (o *Owner[T]) Claim(g *Registration[T]) *Claim[T] {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &Claim[T]{Registration: g}
	if top := g.top(); top != nil {
		c.by = top.by
	}
	return c
}

// Wait waits until what calls declared is acknowledged, or can't be, or ctx ends: the error then
// wraps [ErrPending] and ctx's. It calls the user's signer.
func (o *Owner[T]) Wait(ctx context.Context, claims ...*Claim[T]) []error {
	errs := make([]error, len(claims))
	for i, c := range claims { // all are signed before the first is waited for
		err := o.prepare(ctx, c)
		if errors.Is(err, tenant.ErrPermission) { // all need the lease
			for _, c := range claims[i+1:] {
				o.noLease(c, err)
			}
		}
		if err != nil {
			break
		}
	}
	for i, c := range claims {
		errs[i] = o.wait(ctx, c)
	}
	o.awaitSeen(ctx, claims, errs)
	return errs
}

func (o *Owner[T]) wait(ctx context.Context, c *Claim[T]) error {
	try := func() error { return o.prepare(ctx, c) }
	return o.await(ctx, c.Registration, try, func() (bool, error) {
		return c.fate(o.under)
	})
}

// await waits until f says that something is done, or ctx ends. Each time, try is called before;
// f is called with a lock held.
func (o *Owner[T]) await(ctx context.Context, g *Registration[T], try func() error,
	f func() (bool, error)) error {
	for {
		why := try()
		o.mu.Lock()
		done, err := f()
		next := g.changed.Next()
		if why == nil {
			why = g.err
		}
		o.mu.Unlock()
		switch {
		case done:
			return err
		case ctx.Err() != nil:
			return pending(ctx, why)
		}
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
}

// pending is the error of a call whose ctx has ended.
func pending(ctx context.Context, why error) error {
	switch err := ctx.Err(); {
	case why == nil:
		why = err
	case !errors.Is(why, err):
		why = fmt.Errorf("%w: %w", err, why)
	}
	return fmt.Errorf("%w: it is made as soon as NATS answers: %w", ErrPending, why)
}

// fate is what became of a call, if that is known. The caller holds Owner.mu.
func (c *Claim[T]) fate(lease string) (done bool, err error) {
	l, top := c.layer, c.top()
	switch {
	case c.err != nil:
		return true, c.err
	case l == nil:
		return false, nil
	case l.refusals > c.refusals:
		return true, l.why
	case l.acks > c.acks, l == top && !c.due(lease):
		return true, nil
	case c.over != nil:
		return true, c.over
	case top == nil:
		return true, ErrEnded
	case l == top, !c.settled() && !top.stands:
		return false, nil
	case c.change == nil && top.by != c.by: // a later call declared something else
		return true, ErrFenced
	}
	return c.settled(), nil
}

// prepare does what a call does itself for the loop to write its layer: it waits for a lease, and
// signs.
func (o *Owner[T]) prepare(ctx context.Context, c *Claim[T]) error {
	lease := o.cfg.Registry.Lease()
	o.mu.Lock()
	l := c.layer
	done, _ := c.fate(lease)
	if done || l == nil || l != c.top() {
		o.mu.Unlock()
		return nil
	}
	drafted := l.drafted
	o.mu.Unlock()
	if lease == "" {
		if err := o.cfg.Registry.AwaitLease(ctx, c.Key, &l.want); err != nil {
			o.noLease(c, err)
			return err
		}
		lease = o.cfg.Registry.Lease()
	}
	if o.cfg.Signs && drafted != lease {
		o.sign(c.Registration, l, lease)
	}
	return nil
}

// noLease refuses a call's layer, if there can be no lease for it.
func (o *Owner[T]) noLease(c *Claim[T], err error) {
	if !tenant.Permanent(err) {
		return
	}
	o.mu.Lock()
	if c.layer != nil {
		o.refuse(c.Registration, c.layer, err)
	}
	result := Result[T]{Of: c.Registration, Want: c.last, Err: err, Acked: c.acked, Waited: true}
	o.mu.Unlock()
	o.cfg.Registry.Report([]Result[T]{result})
}

// End takes registrations back, and waits until their keys are deleted, or ctx ends: the error then
// wraps [ErrPending] and ctx's. It wraps [ErrFenced] if a later call, or a newer owner, declared
// something else.
func (o *Owner[T]) End(ctx context.Context, claims ...*Claim[T]) []error {
	errs := make([]error, len(claims))
	o.mu.Lock()
	for i, c := range claims {
		errs[i] = o.end(c)
		c.held++
	}
	o.mu.Unlock()
	for i, c := range claims {
		if errs[i] == nil {
			errs[i] = o.awaitEnd(ctx, c.Registration)
		}
	}
	o.awaitSeen(ctx, claims, errs)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range claims {
		c.held--
		o.touch(c.Registration)
	}
	return errs
}

// end takes a registration back, if the claim's call was the last to declare it.
func (o *Owner[T]) end(c *Claim[T]) error {
	if top := c.top(); top != nil && top.by != c.by {
		for _, l := range c.stack {
			l.stands = l.stands && l.by != c.by
		}
		return ErrFenced
	}
	if c.over == nil {
		o.takeBack(c.Registration)
	}
	return nil
}

// EndAll takes all registrations back, and returns their claims for End.
func (o *Owner[T]) EndAll() (claims []*Claim[T]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range o.byKey {
		if g.over == nil {
			claims = append(claims, &Claim[T]{Registration: g})
			o.takeBack(g)
		}
	}
	return claims
}

func (o *Owner[T]) awaitEnd(ctx context.Context, g *Registration[T]) error {
	return o.await(ctx, g, nothing, func() (bool, error) {
		switch {
		case errors.Is(g.over, ErrEnded), len(g.stack) > 0: // a later call declared it
			return true, nil
		case g.over == nil && errors.Is(g.err, tenant.ErrStorageFull):
			return true, g.err
		}
		return g.over != nil, g.over
	})
}

func nothing() error { return nil }

// seenTime bounds the wait for this process's own view to show what it wrote.
const seenTime = 250 * time.Millisecond

// awaitSeen waits until this process's view has shown what calls wrote that have no error. It is a
// courtesy, and bounded.
func (o *Owner[T]) awaitSeen(ctx context.Context, claims []*Claim[T], errs []error) {
	ctx, cancel := context.WithTimeout(ctx, seenTime)
	defer cancel()
	for i, c := range claims {
		if errs[i] == nil && o.cfg.Registry.Shows(&c.First) {
			_ = o.await(ctx, c.Registration, nothing, func() (bool, error) {
				return !c.acked || c.seen != nil && c.seen.Revision >= c.rev, nil
			})
		}
	}
}
