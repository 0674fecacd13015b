package kvregistry

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// standard is the default instance, which Connect makes.
var standard struct {
	sync.Mutex // held while it is made, so that all callers of Connect at once get the same one
	reg        atomic.Pointer[Registry]
}

// instanceOrError is the default instance, open or closed.
func instanceOrError() (*Registry, error) {
	if r := standard.reg.Load(); r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("kvregistry: %w: call Connect(Nats(nc)) first", ErrNoInstance)
}

// Connect makes the default instance, on the connection that [Nats] gives, or returns the one that
// is there: Connect() is how the rest of a program gets at it. It may be called by many goroutines
// at once.
//
// The error is one of [New]'s, or wraps [ErrNoInstance] if there is no instance and no
// connection was given, or [ErrInvalidOption] if the instance that is there has another
// connection or tenant than asked for. After [Close] the next Connect makes a new one.
func Connect(opts ...Option) (*Registry, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	standard.Lock()
	defer standard.Unlock()
	if r := standard.reg.Load(); r != nil && !r.closed.Load() {
		if o.ncGiven && o.nc != r.opt.nc {
			return nil, fmt.Errorf("kvregistry: %w: the default registry has another connection; "+
				"use New for a second one", ErrInvalidOption)
		}
		if o.tenantGiven && o.tenant != r.opt.tenant {
			return nil, fmt.Errorf("kvregistry: %w: the default registry is tenant %q's; use New "+
				"for tenant %q", ErrInvalidOption, r.opt.tenant, o.tenant)
		}
		return r, nil
	}
	if !o.ncGiven {
		return nil, fmt.Errorf("kvregistry: %w: call Connect(Nats(nc)) first", ErrNoInstance)
	}
	r, err := New(context.Background(), o.nc, opts...)
	if err != nil {
		return nil, err
	}
	standard.reg.Store(r)
	return r, nil
}

// Register is [Registry.Register] of the default instance.
func Register(s Service) (unregister func() error, err error) {
	r, err := instanceOrError()
	if err != nil {
		return nil, err
	}
	return r.Register(s)
}

// Unregister is [Registry.Unregister] of the default instance.
func Unregister(name string) error {
	r, err := instanceOrError()
	if err != nil {
		return err
	}
	return r.Unregister(name)
}

// GetServices is [Registry.GetServices] of the default instance.
func GetServices(ctx context.Context, name string, filters ...Filter) ([]Service, error) {
	r, err := instanceOrError()
	if err != nil {
		return nil, err
	}
	return r.GetServices(ctx, name, filters...)
}

// GetService is [Registry.GetService] of the default instance.
func GetService(name string, filters ...Filter) (Service, error) {
	r, err := instanceOrError()
	if err != nil {
		return Service{}, err
	}
	return r.GetService(name, filters...)
}

// Observe is [Registry.Observe] of the default instance.
func Observe(name string) error {
	r, err := instanceOrError()
	if err != nil {
		return err
	}
	return r.Observe(name)
}

// Close is [Registry.Close] of the default instance.
func Close() error {
	r, err := instanceOrError()
	if err != nil {
		return err
	}
	return r.Close()
}
