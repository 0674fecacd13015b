package kvregistry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/kvregistry/go/tenant"
)

// register registers services.
func (w *owned) register(ctx context.Context,
	services []Service) (unregister func() error, err error) {
	ctx, cancel := w.r.whileOpen(ctx)
	defer cancel()
	claims, err := w.declare(ctx, services)
	if err != nil {
		return nil, fmt.Errorf("kvregistry: register: %w", w.r.orClosed(err))
	}
	through := false
	defer w.dropUnless(&through, claims) // the signer or the log handler may panic
	errs := w.settle(ctx, claims)
	w.tellNews(registrations(claims)...)
	through = true
	cancelled := slices.ContainsFunc(errs, func(err error) bool {
		return errors.Is(err, context.Canceled)
	})
	left := claims[:0]
	for i, c := range claims {
		if errs[i] == nil && !cancelled || errors.Is(errs[i], ErrPending) {
			w.r.own.Stand(c, errs[i])
			left = append(left, c)
		} else {
			w.r.own.Drop(c)
		}
		errs[i] = wrapOf("register", c.Registration, errs[i])
	}
	if len(left) > 0 {
		unregister = func() error {
			return bounded(func(ctx context.Context) error { return w.endThese(ctx, left) })
		}
	}
	return unregister, errors.Join(errs...)
}

// dropUnless takes back what calls declared, unless through is set by now: if a function of the
// user's panicked, nobody gets to know what became of the calls.
func (w *owned) dropUnless(through *bool, claims []*claimed) {
	if *through {
		return
	}
	for _, c := range claims {
		w.r.own.Drop(c)
	}
}

// declare declares services, if all of them can be.
func (w *owned) declare(ctx context.Context, services []Service) ([]*claimed, error) {
	list, names := make([]declaration, len(services)), make([]string, len(services))
	for i, s := range services {
		err := w.r.awaitListening(ctx, s)
		if err == nil {
			list[i], err = w.declaration(ctx, s)
		}
		if err != nil {
			return nil, err
		}
		names[i] = s.Name
	}
	w.r.cache.track(names...)
	claims, err := w.r.own.Declare(list...)
	for _, c := range claims {
		if c.Fresh {
			w.r.view.WatchSoon(c.Key) // a newer owner is noticed well within a second
			if !w.r.own.Has(c.Key) {  // it is over already
				w.r.view.Unwatch(c.Key)
			}
		}
	}
	return claims, err
}

// settle waits for calls, and returns what each came to.
func (w *owned) settle(ctx context.Context, claims []*claimed) []error {
	errs := w.r.own.Wait(ctx, claims...)
	why := w.r.view.Failure()
	for i, err := range errs {
		if errors.Is(err, ErrPending) && errors.Is(why, tenant.ErrBucketNotFound) {
			err = fmt.Errorf("%w: %v", err, why) // a write is not told
		}
		// its caller does not want it any more
		if errors.Is(err, ErrPending) && errors.Is(ctx.Err(), context.Canceled) {
			err = errAbandoned
			w.refusals.forgive(claims[i].First.Name)
		}
		if errs[i] = w.r.orClosed(err); err == nil {
			w.refusals.forgive(claims[i].First.Name)
		}
	}
	return errs
}

var errAbandoned = fmt.Errorf("%w before NATS acknowledged it: it is taken back", context.Canceled)

// registrations are those of claims.
func registrations(claims []*claimed) []*registration {
	list := make([]*registration, len(claims))
	for i, c := range claims {
		list[i] = c.Registration
	}
	return list
}

// wrapOf says in an error which registration it is about.
func wrapOf(what string, g *registration, err error) error {
	return wrap(fmt.Sprintf("%s %q of service %q", what, g.First.ID, g.First.Name), err)
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

// declaration is what a service declares, if it is valid.
func (w *owned) declaration(ctx context.Context, s Service) (d declaration, err error) {
	if err := w.r.usable(ctx); err != nil {
		return d, err
	}
	given := s.Status
	s = s.Clone()
	made := s.ID == ""
	if made {
		s.ID = rand.Text()[:16]
	}
	if err := w.complete(&s); err != nil {
		return d, err
	}
	d.Want = s
	d.Key, _ = tenant.ServiceKey(s.Name, s.ID) // was checked
	if given == "" {
		d.Over = func(was Service) Service {
			next := s
			next.Status = was.Status
			return next
		}
	}
	if made {
		d.Like = func(was *Service) bool {
			like := s
			like.ID = was.ID
			return like.same(was)
		}
	}
	return d, nil
}

// envelope is more than a record has besides its instance: the format, a lease, an owner, a signer
// and a signature.
const envelope = 512

// anyLease is a lease's id of the length that those of this registry have.
func (w *owned) anyLease() string {
	if w.r.opt.signer != nil { // a public key
		return rand.Text() + rand.Text()
	}
	return rand.Text()
}

// complete fills in what is left out, and checks the rest.
func (w *owned) complete(s *Service) error {
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
	if trusted := w.r.opt.signersOf(s.Name); trusted != nil &&
		!slices.Contains(trusted, w.r.opt.public) {
		return fmt.Errorf("%w %q: this registry would not believe it: SignWith a key that "+
			"TrustSigners has for it", ErrInvalidService, s.Name)
	}
	if s.longest()+envelope <= w.r.opt.bounds.record {
		return nil // it need not be made to see that it fits
	}
	_, err := encode(w.unsigned(), *s, w.r.opt.bounds.record)
	return err
}

// declared is this process's registration of a service and an id; without an id, those of the
// service.
func (w *owned) declared(name, id string) []*registration {
	if id == "" {
		return w.r.own.Declared(func(s *Service) bool { return s.Name == name })
	}
	key, err := tenant.ServiceKey(name, id)
	if g := w.r.own.Get(key); err == nil && g != nil {
		return []*registration{g}
	}
	return nil
}

// claims are the given registrations as they are declared now.
func (w *owned) claims(list []*registration) []*claimed {
	claims := make([]*claimed, len(list))
	for i, g := range list {
		claims[i] = w.r.own.Claim(g)
	}
	return claims
}

// endThese takes registrations back.
func (w *owned) endThese(ctx context.Context, list []*claimed) error {
	errs := w.end(ctx, list)
	w.tellNews(registrations(list)...)
	return wrap("unregister", errors.Join(errs...))
}

// end takes registrations back, and returns what each came to.
func (w *owned) end(ctx context.Context, list []*claimed) []error {
	for _, c := range list {
		w.refusals.forgive(c.First.Name)
	}
	errs := w.r.own.End(ctx, list...)
	for i, err := range errs {
		if err != nil && !errors.Is(err, ErrPending) {
			errs[i] = named(list[i].Registration, err)
		}
	}
	return errs
}

// named is an error of a registration.
func named(g *registration, err error) error {
	return fmt.Errorf("%q of service %q: %w", g.First.ID, g.First.Name, err)
}

// endAll takes everything back.
func (w *owned) endAll(ctx context.Context) error {
	list := w.r.own.EndAll()
	errs := w.end(ctx, list)
	for i, err := range errs {
		if errors.Is(err, ErrFenced) {
			errs[i] = nil
		}
	}
	w.tellNewsLater(registrations(list))
	return errors.Join(errs...)
}
