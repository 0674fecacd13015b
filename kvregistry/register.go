package kvregistry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/tenant"
)

// Register registers an instance and returns when the server has acknowledged it, within 5 s. See
// [Registry.RegisterContext].
func (r *Registry) Register(s Service) (unregister func() error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	return r.RegisterContext(ctx, s)
}

// RegisterContext registers an instance and returns when the server has acknowledged it. If s has
// no ID, one is made. If another process has registered the same name and ID, this one takes over,
// and the earlier owner is told and changes nothing any more.
//
// If this registry has registered the same name and ID, that registration is updated, and nothing
// is written if s says the same. Its status stays as it is if s.Status is empty, as in
// [Registry.UpdateContext]. If s says something else, the unregister functions of earlier calls
// return [ErrFenced] from then on; the functions given to [OnFenced] are not called. If the server
// refuses the change, what was registered before stays.
//
// unregister takes the registration back; it may be called more than once. It waits for up to 5 s.
//
// The error wraps [ErrInvalidService], [ErrNotListening], [ErrClosed], [ErrConnectionClosed], [ErrPermission] or
// [ErrStorageFull] where nothing was registered. It wraps [ErrPending], and ctx's error, where the server did
// not answer in time: the registration stands, and is written as soon as it can be, unless unregister, which
// is not nil then, is called. To register the same Service once more, also without an ID, is to wait for it
// once more.
//
// It wraps [ErrFenced] if a later call has this registry register something else under the same name
// and ID before the first one is acknowledged.
//
// If ctx has ended before the call, nothing is done. If it is cancelled before the server has
// acknowledged the registration, the registration is taken back, and the error wraps ctx's alone. What
// earlier calls registered under the same name and ID, and what others that say the same wait for, stays.
func (r *Registry) RegisterContext(ctx context.Context, s Service) (unregister func() error, err error) {
	ctx, cancel := r.whileOpen(ctx)
	defer cancel()
	if err := r.awaitListening(ctx, s); err != nil {
		return nil, fmt.Errorf("kvregistry: register: %w", r.orClosed(err))
	}
	g, err := r.registrationOf(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("kvregistry: register: %w", r.orClosed(err))
	}
	c, err := r.declare(g, s.Status != "")
	if err != nil {
		return nil, fmt.Errorf("kvregistry: register: %w", r.orClosed(err))
	}
	unregister = func() error {
		return bounded(func(ctx context.Context) error { return r.endThese(ctx, []claim{c}) })
	}
	through := false
	defer func() {
		if !through { // the signer or the log handler panicked: nobody has unregister
			r.own.drop(c)
		}
	}()
	err = r.orClosed(r.first(ctx, c))
	r.own.answered(c.registration, err)
	failed := err != nil && !errors.Is(err, ErrPending)
	through = failed // there is nothing to take back
	r.tellNews(c.registration)
	through = true
	if failed {
		return nil, g.wrap(err)
	}
	r.own.stands(c)
	return unregister, g.wrap(err)
}

// wrap says in an error of Register what was to be registered.
func (g *registration) wrap(err error) error {
	if err == nil {
		return nil
	}
	return wrap(fmt.Sprintf("register %q of service %q", g.id, g.name), err)
}

// RegisterAll registers many instances, each as [Registry.RegisterContext] would, and returns when the server has acknowledged them. Their writes are
// under way together, so it takes a fraction of the time that as many calls of Register take.
//
// Where one of them is invalid, or does not listen though [Listening] asks for it, nothing is registered, and the error wraps [ErrInvalidService] or
// [ErrNotListening]. Otherwise the error joins those of the ones that were not
// registered, or are [ErrPending]; the others are. unregister takes back all that are, and is nil where nothing was registered.
// If ctx has ended before the call, nothing is done; if it is cancelled before the server has
// acknowledged all of them, all are taken back.
func (r *Registry) RegisterAll(ctx context.Context, services ...Service) (unregister func() error, err error) {
	ctx, cancel := r.whileOpen(ctx)
	defer cancel()
	if r.opt.listening {
		if err := each(services, func(s Service) error { return r.awaitListening(ctx, s) }); err != nil {
			return nil, fmt.Errorf("kvregistry: register: %w", r.orClosed(err))
		}
	}
	list := make([]*registration, len(services))
	for i, s := range services {
		if list[i], err = r.registrationOf(ctx, s); err != nil {
			for _, g := range list[:i] {
				r.own.answered(g, err)
			}
			return nil, fmt.Errorf("kvregistry: register: %w", r.orClosed(err))
		}
	}
	names := make([]string, len(list))
	for i, g := range list {
		names[i] = g.name
	}
	r.cache.track(names...)
	claims := make([]claim, len(list))
	for i, g := range list {
		if claims[i], err = r.declare(g, services[i].Status != ""); err != nil {
			return nil, fmt.Errorf("kvregistry: register: %w", r.orClosed(err))
		}
	}
	through := false
	defer func() {
		if !through { // the signer or the log handler panicked
			for _, c := range claims {
				r.own.drop(c)
			}
		}
	}()
	refused := r.firstTogether(ctx, claims)
	errs := all(claims, func(c claim) error {
		if err := refused[c.registration]; err != nil {
			return err
		}
		return r.orClosed(r.first(ctx, c))
	})
	cancelled := slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, context.Canceled) })
	r.tellNews(registrations(claims)...)
	through = true
	left := claims[:0]
	for i, c := range claims {
		r.own.answered(c.registration, errs[i])
		switch {
		case cancelled && errs[i] == nil:
			r.own.drop(c)
		case errs[i] == nil || errors.Is(errs[i], ErrPending):
			r.own.stands(c)
			left = append(left, c)
		}
		errs[i] = c.wrap(errs[i])
	}
	if len(left) > 0 {
		unregister = func() error {
			return bounded(func(ctx context.Context) error { return r.endThese(ctx, left) })
		}
	}
	return unregister, errors.Join(errs...)
}

// bounded gives a method that takes no context the time that it may take.
func bounded(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	return f(ctx)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("kvregistry: %s: %w", what, err)
}

// registrationOf makes a registration of a service that is valid, or finds the one of the same content that is pending.
func (r *Registry) registrationOf(ctx context.Context, s Service) (*registration, error) {
	if err := r.usable(ctx); err != nil {
		return nil, err
	}
	s = s.Clone()
	made := s.ID == ""
	if made {
		s.ID = rand.Text()[:16]
	}
	if err := r.complete(&s); err != nil {
		return nil, err
	}
	if made {
		if g := r.own.pending(&s); g != nil {
			return g, nil
		}
	}
	key, _ := tenant.ServiceKey(s.Name, s.ID) // was checked
	g := &registration{
		key: key, name: s.Name, id: s.ID, service: s, made: made, asked: true, dirty: true,
		dated: made, // nothing can stand at an id that was made at random
		turn:  make(chan struct{}, 1),
	}
	g.turn <- struct{}{}
	return g, nil
}

// declare puts a registration on the list of what this process registers, or has the one of its id
// that is there declare the same. status says that the caller gave one.
func (r *Registry) declare(g *registration, status bool) (claim, error) {
	c, added, err := r.own.declare(g, status, &r.closed)
	if added {
		r.cache.track(g.name)
		r.view.WatchSoon(g.key) // a newer owner is noticed well within a second
	}
	return c, err
}

// usable returns an error if nothing can be written any more, or ctx ended before the call that it
// is for: such a call does nothing.
func (r *Registry) usable(ctx context.Context) error {
	if r.closed.Load() {
		return ErrClosed
	}
	if r.opt.nc.IsClosed() {
		return r.bucket.Disconnected()
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w before the call: nothing was done", err)
	}
	return nil
}

// envelope is more than a record has besides its instance: the format, a lease, an owner, a signer and a signature.
const envelope = 512

// anyLease is a lease's id of the length that those of this registry have.
func (r *Registry) anyLease() string {
	if r.opt.signer != nil { // a public key
		return rand.Text() + rand.Text()
	}
	return rand.Text()
}

// complete fills in what is left out, and checks the rest.
func (r *Registry) complete(s *Service) error {
	if s.Host == "" {
		s.Host = hostname()
	}
	if s.Status == "" {
		s.Status = Passing
	}
	s.Revision = 0
	if err := s.check(); err != nil {
		return err
	}
	if trusted := r.opt.signersOf(s.Name); trusted != nil && !slices.Contains(trusted, r.opt.public) {
		return fmt.Errorf("%w %q: this registry would not believe it: SignWith a key that TrustSigners has for it", ErrInvalidService, s.Name)
	}
	if s.longest()+envelope <= r.opt.bounds.record {
		return nil // it need not be made to see that it fits
	}
	_, err := encode(r.unsigned(), *s, r.opt.bounds.record)
	return err
}

// take waits for a registration's turn, which it takes if it can be had, be ctx over. Who has it
// gives it back with [Registry.release].
func (g *registration) take(ctx context.Context) error {
	select {
	case <-g.turn:
		return nil
	default:
	}
	select {
	case <-g.turn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w: an earlier change is under way", ErrPending, ctx.Err())
	}
}

// release gives the turn back, and looks at what was seen meanwhile.
func (r *Registry) release(g *registration) {
	lease := ""
	if l := r.keeper.Current(); l != nil {
		lease = l.ID
	}
	r.own.mu.Lock()
	r.own.catchUp(g)
	g.turn <- struct{}{}
	fenced := r.own.judge(r.id, g)
	due := g.due(lease)
	r.own.mu.Unlock()
	for _, s := range fenced {
		r.tellFenced(s)
	}
	if due {
		r.own.wakeUp()
	}
}

// first writes what a call of Register declared, until it is acknowledged or ctx ends.
func (r *Registry) first(ctx context.Context, c claim) error {
	r.sign(ctx, c.registration)
	err := c.take(ctx)
	if err == nil {
		defer r.release(c.registration)
		if err := r.own.superseded(c); err != nil {
			r.own.drop(c)
			return err
		}
		err = persist(ctx, func() error { return r.tryWrite(ctx, c.registration) })
		if tenant.Permanent(err) {
			r.own.withdraw(c, err)
		}
	}
	if abandoned(ctx, err) { // what was sent is removed, or written over
		r.own.drop(c)
		err = errAbandoned
	}
	if why := r.view.Failure(); errors.Is(err, ErrPending) && errors.Is(why, tenant.ErrBucketNotFound) {
		err = fmt.Errorf("%w: %v", err, why) // a write is not told
	}
	return r.outcome(ctx, c.registration, err)
}

// firstTogether writes new registrations together, and returns why those can't be registered that can't. Those that are not acknowledged for another reason are
// left to first.
func (r *Registry) firstTogether(ctx context.Context, list []claim) map[*registration]error {
	for _, c := range list {
		r.sign(ctx, c.registration)
	}
	var taken []*registration
	defer func() { // though the signer panics
		for _, g := range taken {
			r.release(g)
		}
	}()
	for _, c := range list {
		select {
		case <-c.turn:
			taken = append(taken, c.registration)
		default: // it was pending, and is being written
		}
	}
	refused := map[*registration]error{}
	if len(taken) > 1 {
		if l, err := r.leaseFor(ctx, taken[0]); err == nil {
			for i, err := range r.putTogether(ctx, taken, l.ID) {
				if tenant.Permanent(err) {
					refused[taken[i]] = err
				}
			}
		}
	}
	for _, c := range list {
		if err := refused[c.registration]; err != nil {
			r.own.withdraw(c, err)
		}
	}
	return refused
}

// abandoned reports whether a change is not acknowledged because ctx was cancelled: its caller does
// not want it any more. If its time ended instead, the change is pending.
func abandoned(ctx context.Context, err error) bool {
	return errors.Is(err, ErrPending) && errors.Is(ctx.Err(), context.Canceled)
}

var errAbandoned = fmt.Errorf("%w before NATS acknowledged it: it is taken back", context.Canceled)

// retryCurve is the time between two tries at what a caller waits for.
var retryCurve = backoff.Curve{Least: 10 * time.Millisecond, Most: 250 * time.Millisecond}

// persist tries until it is done, or can't be done, or ctx ends.
func persist(ctx context.Context, try func() error) error {
	for n := 0; ; n++ {
		err := try()
		if err == nil || tenant.Permanent(err) || errors.Is(err, ErrFenced) || errors.Is(err, ErrClosed) || errors.Is(err, errEnded) {
			return err
		}
		if over := backoff.Sleep(ctx, retryCurve.After(n)); over != nil {
			return fmt.Errorf("%w: it is made as soon as NATS answers: %w: %w", ErrPending, over, err)
		}
	}
}

// outcome lets a registry see its own write where there was one.
func (r *Registry) outcome(ctx context.Context, g *registration, err error) error {
	if err == nil {
		r.awaitSeen(ctx, g)
	}
	return err
}

// tryWrite writes what a registration declares, under the lease that there is or will be.
func (r *Registry) tryWrite(ctx context.Context, g *registration) error {
	held := r.keeper.Current() != nil
	l, err := r.leaseFor(ctx, g)
	if err != nil {
		return err
	}
	if !held { // it was granted since the call began, at a revision that is a date as good as any
		r.own.date(g, l.Revision(), 0)
	}
	if r.own.clean(g, l.ID) { // it was written in the background
		return nil
	}
	return r.put(ctx, g, l.ID)
}

// leaseFor is the lease that a registration is written under, once there is one.
func (r *Registry) leaseFor(ctx context.Context, g *registration) (*lease.Lease, error) {
	if r.closed.Load() {
		return nil, ErrClosed
	}
	if err := r.awaitReady(ctx); err != nil {
		return nil, err
	}
	if err := r.admitLease(ctx, g); err != nil {
		return nil, err
	}
	return r.keeper.Lease(ctx)
}

// admitLease asks for room for a new registration before a lease is taken for it, which is a key too and would stay for a while.
func (r *Registry) admitLease(ctx context.Context, g *registration) error {
	s, fresh := r.own.untried(g)
	if !fresh || r.keeper.Current() != nil {
		return nil
	}
	value, err := encode(r.unsigned(), s, r.opt.bounds.record)
	if err != nil {
		return err
	}
	return r.admit(ctx, g, len(value))
}

// seenTime bounds the wait for this process's own view to show what it wrote.
const seenTime = 250 * time.Millisecond

// awaitSeen lets a registry see its own writes: where the service is observed, it waits until the cache shows
// the last one. It is a courtesy, and bounded.
func (r *Registry) awaitSeen(ctx context.Context, g *registration) {
	if svc := r.cache.find(g.name); svc == nil || svc.snap.Load() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, seenTime)
	defer cancel()
	for {
		r.own.mu.Lock()
		there, advance := g.seen != nil && g.seen.Revision >= g.rev, r.own.advance.Next()
		r.own.mu.Unlock()
		if there {
			return
		}
		select {
		case <-advance:
		case <-ctx.Done():
			return
		}
	}
}

// Unregister takes back all of this process's instances of a service, within 5 s. See
// [Registry.UnregisterContext].
func (r *Registry) Unregister(name string) error {
	return bounded(func(ctx context.Context) error { return r.UnregisterContext(ctx, name) })
}

// UnregisterContext takes back all of this process's instances of a service, and returns when the server has
// acknowledged it. The error wraps [ErrNotRegistered] where there are none, [ErrClosed], or [ErrPending] where
// the server did not answer in time: they are then deleted as soon as it can be done. So are they
// if ctx is cancelled meanwhile. If it has ended before the call, nothing is done.
func (r *Registry) UnregisterContext(ctx context.Context, name string) error {
	if err := r.usable(ctx); err != nil {
		return fmt.Errorf("kvregistry: unregister: %w", err)
	}
	r.own.forgive(name)
	list := r.own.named(name)
	if len(list) == 0 || name == "" {
		return fmt.Errorf("kvregistry: unregister: service %q: %w", name, r.orClosed(ErrNotRegistered))
	}
	return r.endThese(ctx, r.own.claims(list))
}

// endThese takes registrations back.
func (r *Registry) endThese(ctx context.Context, list []claim) error {
	err := each(list, func(c claim) error { return r.end(ctx, c) })
	r.tellNews(registrations(list)...)
	return wrap("unregister", err)
}

// end takes a registration back.
func (r *Registry) end(ctx context.Context, c claim) error {
	if done, err := r.own.ending(c); done {
		return err
	}
	g := c.registration
	if err := g.take(ctx); err != nil {
		return err
	}
	defer r.release(g)
	return r.outcome(ctx, g, persist(ctx, func() error { return r.remove(ctx, g) }))
}

// endAll takes everything back.
func (r *Registry) endAll(ctx context.Context) error {
	list := r.own.open()
	err := each(r.own.claims(list), func(c claim) error {
		if err := r.end(ctx, c); err != nil && !errors.Is(err, ErrFenced) {
			return err
		}
		return nil
	})
	r.tellNewsLater(list)
	return err
}

// RegisteredServices are the instances that this process has registered, ordered by name and id.
func (r *Registry) RegisteredServices() []Service {
	r.own.mu.Lock()
	defer r.own.mu.Unlock()
	var list []Service
	for _, g := range r.own.byKey {
		if g.declared() {
			s := g.service.Clone()
			s.Revision = g.rev
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return list
}
