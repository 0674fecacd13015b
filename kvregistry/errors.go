package kvregistry

import (
	"errors"

	"github.com/kvregistry/go/kvregistry/internal/claim"
	"github.com/kvregistry/go/kvregistry/internal/endpoint"
	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/lease/line"
	"github.com/kvregistry/go/tenant"
)

// Errors to test for with errors.Is. What is returned wraps one of them, names what was wrong, and
// says what to do.
var (
	// ErrNotFound says that the bucket was read and there is no such instance.
	ErrNotFound = errors.New("no instance found")
	// ErrUnavailable says that it is not known whether there is an instance: the bucket could not
	// be read.
	ErrUnavailable = errors.New("registry could not be read")
	// ErrStale says that what is known is older than [MaxStale] lets a look-up show.
	ErrStale = errors.New("view is too old")
	// ErrInvalidService says that a service can't be registered as it is. Nothing was written.
	ErrInvalidService = errors.New("invalid service")
	// ErrNilConnection says that no NATS connection was given.
	ErrNilConnection = errors.New("no NATS connection")
	// ErrNoInstance says that there is no default instance: Connect was not called with Nats yet.
	ErrNoInstance = errors.New("no default registry")
	// ErrClosed says that the registry was closed.
	ErrClosed = claim.ErrClosed
	// ErrPending says that a change was taken and not acknowledged in time. It is made as soon as
	// the server answers, unless it is taken back.
	ErrPending = claim.ErrPending
	// ErrFenced says that a newer registration of the same id took over. This one changes nothing
	// any more.
	ErrFenced = claim.ErrFenced
	// ErrNotRegistered says that this registry has no such registration of its own.
	ErrNotRegistered = claim.ErrNotRegistered
	// ErrNotListening says that nothing listens where a service is said to be, and [Listening]
	// asked for that. It was not registered.
	ErrNotListening = errors.New("nothing listens there")

	ErrNoAddress        = endpoint.ErrNoAddress      // this host has no such address or port
	ErrInvalidOption    = tenant.ErrInvalidConfig    // an option or a combination is impossible
	ErrInvalidName      = tenant.ErrInvalidName      // no key can be made of a name
	ErrNotHeld          = line.ErrNotHeld            // a [Hold] is over
	ErrLeaseLost        = lease.ErrLost              // it ran out; a new one is taken
	ErrConnectionClosed = tenant.ErrConnectionClosed // the nats.Conn was closed by its owner
	ErrServerTooOld     = tenant.ErrServerTooOld
	ErrJetStreamOff     = tenant.ErrJetStreamDisabled
	ErrPermission       = tenant.ErrPermission
	ErrStorageFull      = tenant.ErrStorageFull
	ErrTooLarge         = tenant.ErrTooLarge       // a record is too large for the server
	ErrBucketMismatch   = tenant.ErrBucketMismatch // the bucket exists with other settings
)
