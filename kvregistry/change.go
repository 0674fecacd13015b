package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"reflect"
)

// Update replaces what a registered instance says, within 5 s. See [Registry.UpdateContext].
func (r *Registry) Update(s Service) error {
	return bounded(func(ctx context.Context) error { return r.UpdateContext(ctx, s) })
}

// UpdateContext replaces what an instance of this process declares, in one write. It returns when
// the server has acknowledged the write. s.ID may be empty if this process has one instance of the
// name. If s.Status is empty the status stays as it is, because checks or [Registry.Drain] may have
// set it.
//
// The error wraps [ErrNotRegistered], [ErrInvalidService], [ErrFenced], [ErrClosed], or
// [ErrPending] if the server did not answer in time: the change is then written as soon as it can
// be. If ctx has ended before the call, nothing is done. If it is cancelled before the server has
// acknowledged the change, the change is taken back, and the error wraps ctx's alone.
func (r *Registry) UpdateContext(ctx context.Context, s Service) error {
	if err := r.usable(ctx); err != nil {
		return fmt.Errorf("kvregistry: update: %w", err)
	}
	list := r.owned.declared(s.Name, s.ID)
	switch {
	case len(list) == 0 || s.Name == "":
		return fmt.Errorf("kvregistry: update: instance %q of service %q: %w", s.ID, s.Name,
			r.orClosed(ErrNotRegistered))
	case len(list) > 1:
		return fmt.Errorf("kvregistry: update: %w: this process has %d instances of service %q; "+
			"set ID", ErrInvalidService, len(list), s.Name)
	}
	s = s.Clone()
	s.ID = list[0].First.ID
	keep := s.Status == ""
	if err := r.owned.complete(&s); err != nil {
		return fmt.Errorf("kvregistry: update: %w", err)
	}
	errs := r.owned.alter(ctx, []*claimed{r.own.Change(list[0], func(was Service) (Service, error) {
		next := s
		if keep {
			next.Status = was.Status
		}
		return next, nil
	})})
	r.owned.tellNews(list...)
	return wrap("update", errors.Join(errs...))
}

// SetStatus sets the status of all of this process's instances of a service, within 5 s. See
// [Registry.SetStatusContext].
func (r *Registry) SetStatus(name string, status Status) error {
	return bounded(func(ctx context.Context) error { return r.SetStatusContext(ctx, name, status) })
}

// SetStatusContext sets the status of all of this process's instances of a service. It makes one
// write for each instance that has another status. Errors are those of [Registry.UpdateContext],
// and ctx has the same meaning for each of the instances.
func (r *Registry) SetStatusContext(ctx context.Context, name string, status Status) error {
	if !status.valid() {
		return fmt.Errorf("kvregistry: set status: %w: status %q; use passing, warning, critical "+
			"or draining", ErrInvalidService, status)
	}
	set := func(s *Service) { s.Status = status }
	return wrap("set status", r.owned.alterAll(ctx, name, "", set))
}

// UpdateFunc has f change what an instance of this process declares, and returns when the server
// has acknowledged it. If id is empty, f changes each of the process's instances of the name. Each
// instance that f changes takes one write.
//
// f gets what the process declared last, and may change everything except the ID and the Name. No
// other change comes in between, so f may decide by what it reads. f may be called more than once.
// The caller's goroutine calls it, one call after the other, and f may call the registry.
//
// Errors are those of [Registry.UpdateContext], and ctx has the same meaning for each instance.
func (r *Registry) UpdateFunc(ctx context.Context, name, id string, f func(*Service)) error {
	if f == nil {
		return fmt.Errorf("kvregistry: update: %w: the function is nil", ErrInvalidService)
	}
	return wrap("update", r.owned.alterAll(ctx, name, id, f))
}

// alterAll alters this process's registration of a name and an id, or all of the name.
func (w *owned) alterAll(ctx context.Context, name, id string, f func(*Service)) error {
	if err := w.r.usable(ctx); err != nil {
		return err
	}
	list := w.declared(name, id)
	switch {
	case len(list) > 0 && name != "":
	case id != "":
		return fmt.Errorf("instance %q of service %q: %w", id, name, w.r.orClosed(ErrNotRegistered))
	default:
		return fmt.Errorf("service %q: %w", name, w.r.orClosed(ErrNotRegistered))
	}
	defer w.tellNews(list...) // even if f panics
	var errs []error
	for todo := list; len(todo) > 0; {
		edits := make([]edit, len(todo))
		for i, g := range todo { // by the caller's goroutine, which holds nothing meanwhile
			edits[i] = w.edit(g, f)
		}
		claims := make([]*claimed, len(todo))
		for i, e := range edits {
			claims[i] = w.r.own.Change(e.of, func(s Service) (Service, error) {
				return w.edited(ctx, e, s)
			})
		}
		todo = nil
		for i, err := range w.alter(ctx, claims) {
			if errors.Is(err, errMoved) {
				todo = append(todo, edits[i].of)
			} else {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// edit is what a function made of what a registration declared.
type edit struct {
	of        *registration
	was, next Service
	err       error
}

// errMoved says that a registration declares something else than an edit was made of.
var errMoved = errors.New("there was another change meanwhile")

// edit calls f, which may be the user's.
func (w *owned) edit(g *registration, f func(*Service)) edit {
	was := w.r.own.Want(g)
	e := edit{of: g, was: was, next: was.Clone()}
	f(&e.next)
	e.err = w.fit(g, &e.next)
	return e
}

// fit completes and checks what a registration is to declare.
func (w *owned) fit(g *registration, s *Service) error {
	s.Name, s.ID = g.First.Name, g.First.ID
	return w.complete(s)
}

// edited is what an edit makes of a service. If there was another change meanwhile, the error is
// errMoved; if ctx is over, so that nobody waits for the edit, the fields that it changed are
// changed nevertheless.
func (w *owned) edited(ctx context.Context, e edit, s Service) (Service, error) {
	switch {
	case e.err != nil:
		return s, e.err
	case s.same(&e.was):
		return e.next, nil
	case ctx.Err() == nil:
		return s, errMoved
	}
	s = s.Clone()
	now, was, next := reflect.ValueOf(&s).Elem(), reflect.ValueOf(e.was), reflect.ValueOf(e.next)
	for i := range now.NumField() {
		if !reflect.DeepEqual(was.Field(i).Interface(), next.Field(i).Interface()) {
			now.Field(i).Set(next.Field(i))
		}
	}
	return s, w.fit(e.of, &s)
}

// alter waits for changes, and returns what each came to.
func (w *owned) alter(ctx context.Context, claims []*claimed) []error {
	ctx, cancel := w.r.whileOpen(ctx)
	defer cancel()
	through := false
	defer w.dropUnless(&through, claims) // the signer may panic
	errs := w.settle(ctx, claims)
	through = true
	for i, c := range claims {
		if errs[i] == nil || errors.Is(errs[i], ErrPending) {
			w.r.own.Stand(c, errs[i])
		} else { // if it was written nevertheless, it is overwritten
			w.r.own.Drop(c)
		}
	}
	return errs
}
