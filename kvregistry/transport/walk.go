package transport

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kvregistry/go/kvregistry"
)

// unused is the outcome of an instance that the look-up gave and that was not called. It does not
// count against the instance.
var unused = context.Canceled

// walk is a call's way from one instance to another, none of them twice.
type walk struct {
	to   *service
	req  kvregistry.Request
	at   string // the id of the current instance
	been int    // how many it went to
	most int    // how many it may go to
}

// along makes an attempt with one instance after the other, until an attempt says that no other is
// to be tried, or there is none. The attempt has to tell done its outcome. The error is the last
// attempt's, or the look-up's if there was no attempt.
func (w *walk) along(ctx context.Context,
	attempt func(one kvregistry.Service, done func(error)) (again bool, err error)) error {
	one, done, err := w.first(ctx)
	for ok := err == nil; ok; {
		var again bool
		if again, err = attempt(one, done); !again {
			break
		}
		one, done, ok = w.another(ctx)
	}
	return err
}

// first returns the first instance.
func (w *walk) first(ctx context.Context) (one kvregistry.Service, done func(error), err error) {
	one, done, err = w.to.lookup.PickWith(ctx, w.req)
	if errors.Is(err, kvregistry.ErrNotFound) {
		err = fmt.Errorf("%w; looked for is %s", err, w.to.way)
	}
	w.at, w.been = one.ID, 1
	return one, done, err
}

// another returns an instance that the call did not go to yet, if there is one and the budget has a
// retry left.
func (w *walk) another(ctx context.Context) (one kvregistry.Service, done func(error), ok bool) {
	if w.been >= w.most || ctx.Err() != nil {
		return one, nil, false
	}
	w.req.Not = append(w.req.Not, w.at)
	one, done, err := w.to.lookup.PickWith(ctx, w.req)
	if err != nil {
		return one, nil, false
	}
	if slices.Contains(w.req.Not, one.ID) || !w.to.budget.retry() {
		done(unused)
		return one, nil, false
	}
	w.at = one.ID
	w.been++
	return one, done, true
}

// failure returns a call's error as the caller sees it.
func (w *walk) failure(err error) error {
	return &Error{Service: w.to.name, Instance: w.at, Attempts: w.been, Err: err}
}

// Error says that no instance of a service served a call, and wraps the error of the last attempt.
// Errors of the look-up, such as [kvregistry.ErrNotFound], are returned as they are.
type Error struct {
	Service  string // its name
	Instance string // the id of the instance that was called last
	Attempts int    // how many instances were called
	Err      error
}

func (e *Error) Error() string {
	text := fmt.Sprintf("transport: service %q: instance %q: %v", e.Service, e.Instance, e.Err)
	if e.Attempts > 1 {
		text += fmt.Sprintf(" (attempt %d)", e.Attempts)
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the error is a time-out, as net.Error defines it.
func (e *Error) Timeout() bool {
	var timeout interface{ Timeout() bool }
	return errors.As(e.Err, &timeout) && timeout.Timeout()
}
