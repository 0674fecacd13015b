package kvregistry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

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
// If nothing was registered, the error wraps [ErrInvalidService], [ErrNotListening], [ErrClosed],
// [ErrConnectionClosed], [ErrPermission] or [ErrStorageFull]. If the server did not answer in time,
// the error wraps [ErrPending] and ctx's error. The registration then stands, and is written as
// soon as it can be, unless unregister, which is not nil then, is called. A caller that registers
// the same Service again, also without an ID, waits for it again.
//
// The error wraps [ErrFenced] if a later call has this registry register something else under the
// same name and ID before the first one is acknowledged.
//
// If ctx has ended before the call, nothing is done. If it is cancelled before the server has
// acknowledged the registration, the registration is taken back, and the error wraps ctx's alone.
// What earlier calls registered under the same name and ID stays, and so does what other calls that
// say the same wait for.
func (r *Registry) RegisterContext(ctx context.Context,
	s Service) (unregister func() error, err error) {
	return r.register(ctx, []Service{s})
}

// RegisterAll registers many instances, each as [Registry.RegisterContext] would. It returns when
// the server has acknowledged them. Their writes are under way together, so RegisterAll takes a
// fraction of the time that as many calls of Register take.
//
// If one of them is invalid, or does not listen though [Listening] asks for it, nothing is
// registered, and the error wraps [ErrInvalidService] or [ErrNotListening]. Otherwise the error
// joins the errors of the instances that were not registered, or are [ErrPending]; the others are
// registered. unregister takes back all that are, and is nil if nothing was registered. If ctx has
// ended before the call, nothing is done. If it is cancelled before the server has acknowledged all
// of them, all are taken back.
func (r *Registry) RegisterAll(ctx context.Context,
	services ...Service) (unregister func() error, err error) {
	return r.register(ctx, services)
}

// register registers services.
func (r *Registry) register(ctx context.Context,
	services []Service) (unregister func() error, err error) {
	ctx, cancel := r.whileOpen(ctx)
	defer cancel()
	claims, err := r.declare(ctx, services)
	if err != nil {
		return nil, fmt.Errorf("kvregistry: register: %w", r.orClosed(err))
	}
	through := false
	defer r.dropUnless(&through, claims) // the signer or the log handler may panic
	errs := r.settle(ctx, claims)
	r.tellNews(registrations(claims)...)
	through = true
	cancelled := slices.ContainsFunc(errs, func(err error) bool {
		return errors.Is(err, context.Canceled)
	})
	left := claims[:0]
	for i, c := range claims {
		if errs[i] == nil && !cancelled || errors.Is(errs[i], ErrPending) {
			r.own.Stand(c, errs[i])
			left = append(left, c)
		} else {
			r.own.Drop(c)
		}
		errs[i] = wrapOf("register", c.Registration, errs[i])
	}
	if len(left) > 0 {
		unregister = func() error {
			return bounded(func(ctx context.Context) error { return r.endThese(ctx, left) })
		}
	}
	return unregister, errors.Join(errs...)
}

// dropUnless takes back what calls declared, unless through is set by now: if a function of the
// user's panicked, nobody gets to know what became of the calls.
func (r *Registry) dropUnless(through *bool, claims []*claimed) {
	if *through {
		return
	}
	for _, c := range claims {
		r.own.Drop(c)
	}
}

// declare declares services, if all of them can be.
func (r *Registry) declare(ctx context.Context, services []Service) ([]*claimed, error) {
	list, names := make([]declaration, len(services)), make([]string, len(services))
	for i, s := range services {
		err := r.awaitListening(ctx, s)
		if err == nil {
			list[i], err = r.declaration(ctx, s)
		}
		if err != nil {
			return nil, err
		}
		names[i] = s.Name
	}
	r.cache.track(names...)
	claims, err := r.own.Declare(list...)
	for _, c := range claims {
		if c.Fresh {
			r.view.WatchSoon(c.Key) // a newer owner is noticed well within a second
			if !r.own.Has(c.Key) {  // it is over already
				r.view.Unwatch(c.Key)
			}
		}
	}
	return claims, err
}

// settle waits for calls, and returns what each came to.
func (r *Registry) settle(ctx context.Context, claims []*claimed) []error {
	errs := r.own.Wait(ctx, claims...)
	why := r.view.Failure()
	for i, err := range errs {
		if errors.Is(err, ErrPending) && errors.Is(why, tenant.ErrBucketNotFound) {
			err = fmt.Errorf("%w: %v", err, why) // a write is not told
		}
		// its caller does not want it any more
		if errors.Is(err, ErrPending) && errors.Is(ctx.Err(), context.Canceled) {
			err = errAbandoned
			r.owned.refusals.forgive(claims[i].First.Name)
		}
		if errs[i] = r.orClosed(err); err == nil {
			r.owned.refusals.forgive(claims[i].First.Name)
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
func (r *Registry) declaration(ctx context.Context, s Service) (d declaration, err error) {
	if err := r.usable(ctx); err != nil {
		return d, err
	}
	given := s.Status
	s = s.Clone()
	made := s.ID == ""
	if made {
		s.ID = rand.Text()[:16]
	}
	if err := r.complete(&s); err != nil {
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

// envelope is more than a record has besides its instance: the format, a lease, an owner, a signer
// and a signature.
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
	if trusted := r.opt.signersOf(s.Name); trusted != nil &&
		!slices.Contains(trusted, r.opt.public) {
		return fmt.Errorf("%w %q: this registry would not believe it: SignWith a key that "+
			"TrustSigners has for it", ErrInvalidService, s.Name)
	}
	if s.longest()+envelope <= r.opt.bounds.record {
		return nil // it need not be made to see that it fits
	}
	_, err := encode(r.unsigned(), *s, r.opt.bounds.record)
	return err
}

// Unregister takes back all of this process's instances of a service, within 5 s. See
// [Registry.UnregisterContext].
func (r *Registry) Unregister(name string) error {
	return bounded(func(ctx context.Context) error { return r.UnregisterContext(ctx, name) })
}

// UnregisterContext takes back all of this process's instances of a service, and returns when the
// server has acknowledged it. The error wraps [ErrNotRegistered] if there are none, [ErrClosed], or
// [ErrPending] if the server did not answer in time: they are then deleted as soon as it can be
// done. So are they if ctx is cancelled meanwhile. If ctx has ended before the call, nothing is
// done.
func (r *Registry) UnregisterContext(ctx context.Context, name string) error {
	if err := r.usable(ctx); err != nil {
		return fmt.Errorf("kvregistry: unregister: %w", err)
	}
	r.owned.refusals.forgive(name)
	list := r.declared(name, "")
	if len(list) == 0 || name == "" {
		return fmt.Errorf("kvregistry: unregister: service %q: %w", name,
			r.orClosed(ErrNotRegistered))
	}
	return r.endThese(ctx, r.claims(list))
}

// declared is this process's registration of a service and an id; without an id, those of the
// service.
func (r *Registry) declared(name, id string) []*registration {
	if id == "" {
		return r.own.Declared(func(s *Service) bool { return s.Name == name })
	}
	key, err := tenant.ServiceKey(name, id)
	if g := r.own.Get(key); err == nil && g != nil {
		return []*registration{g}
	}
	return nil
}

// claims are the given registrations as they are declared now.
func (r *Registry) claims(list []*registration) []*claimed {
	claims := make([]*claimed, len(list))
	for i, g := range list {
		claims[i] = r.own.Claim(g)
	}
	return claims
}

// endThese takes registrations back.
func (r *Registry) endThese(ctx context.Context, list []*claimed) error {
	errs := r.end(ctx, list)
	r.tellNews(registrations(list)...)
	return wrap("unregister", errors.Join(errs...))
}

// end takes registrations back, and returns what each came to.
func (r *Registry) end(ctx context.Context, list []*claimed) []error {
	for _, c := range list {
		r.owned.refusals.forgive(c.First.Name)
	}
	errs := r.own.End(ctx, list...)
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
func (r *Registry) endAll(ctx context.Context) error {
	list := r.own.EndAll()
	errs := r.end(ctx, list)
	for i, err := range errs {
		if errors.Is(err, ErrFenced) {
			errs[i] = nil
		}
	}
	r.tellNewsLater(registrations(list))
	return errors.Join(errs...)
}

// RegisteredServices are the instances that this process has registered, ordered by name and id.
func (r *Registry) RegisteredServices() (list []Service) {
	r.own.Each(func(s Service, revision uint64, _ bool) {
		s = s.Clone()
		s.Revision = revision
		list = append(list, s)
	})
	slices.SortFunc(list, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return list
}
