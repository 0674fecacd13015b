// Package control does what an operator may do to the registrations of others: ask an owner to
// drain an instance, and remove the registration of an owner that is dead.
package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/tenant"
)

// Errors of this package. Each is wrapped with the instance and with what to do.
var (
	ErrNotFound = errors.New("not registered")
	ErrDead     = errors.New("its owner is dead")
	ErrAlive    = errors.New("its owner is alive")
	ErrMute     = errors.New("its owner takes no requests")
	ErrSilent   = errors.New("its owner does not answer")
	ErrFailed   = errors.New("its owner could not drain it")
	ErrChanged  = errors.New("it was written again meanwhile")
)

// registration is an instance's registration and its owner's lease, as the stream's leader has
// them.
type registration struct {
	key      string
	revision uint64
	lease    string          // empty if the registration names none
	alive    bool            // the lease is there
	owner    wire.LeaseValue // what the lease says; empty if it is not there
}

// read reads the registration of an instance.
func read(ctx context.Context, b *tenant.Bucket, service, id string) (r registration, err error) {
	if r.key, err = tenant.ServiceKey(service, id); err != nil {
		return r, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	entry, found, err := b.Get(ctx, r.key)
	if err != nil {
		return r, err
	}
	if !found {
		return r, ErrNotFound
	}
	r.revision, r.lease = entry.Revision, wire.HeadOf(entry.Value).Lease
	if r.lease == "" {
		return r, nil
	}
	lease, alive, err := b.Get(ctx, tenant.LeaseKey(r.lease))
	if alive {
		r.alive, r.owner = true, wire.ReadLease(lease.Value)
	}
	return r, err
}

// process says in words which process an owner is, as far as its lease says.
func process(v wire.LeaseValue) string {
	if v.Host == "" && v.PID == 0 {
		return "a process that does not say which it is"
	}
	return fmt.Sprintf("process %d on %s", v.PID, v.Host)
}

// wrap names the instance in an error.
func wrap(service, id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s/%s: %w", service, id, err)
}
