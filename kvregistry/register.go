package kvregistry

import (
	"cmp"
	"context"
	"fmt"
	"slices"
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
	return r.owned.register(ctx, []Service{s})
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
	return r.owned.register(ctx, services)
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
	list := r.owned.declared(name, "")
	if len(list) == 0 || name == "" {
		return fmt.Errorf("kvregistry: unregister: service %q: %w", name,
			r.orClosed(ErrNotRegistered))
	}
	return r.owned.endThese(ctx, r.owned.claims(list))
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
