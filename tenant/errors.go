package tenant

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant/internal/stream"
)

// Errors of this package. Each is wrapped with what is wrong and what to do.
var (
	ErrInvalidName       = errors.New("invalid name")
	ErrInvalidTenant     = errors.New("invalid tenant name")
	ErrInvalidConfig     = errors.New("invalid option")
	ErrServerTooOld      = errors.New("nats-server is too old")
	ErrJetStreamDisabled = errors.New("JetStream is not enabled")
	ErrPermission        = errors.New("permission denied")
	ErrStorageFull       = errors.New("no storage left")
	ErrTooLarge          = errors.New("value too large")
	ErrBucketMismatch    = errors.New("bucket has another configuration")
	ErrBucketNotFound    = errors.New("bucket not found")
	ErrConflict          = errors.New("revision has moved on")
	ErrConnectionClosed  = errors.New("NATS connection is closed")
)

// Permanent reports whether err stays until somebody changes the server, the bucket or the call.
// Another try in a moment is of no use.
func Permanent(err error) bool {
	for _, e := range []error{
		ErrInvalidName, ErrInvalidTenant, ErrInvalidConfig, ErrServerTooOld, ErrJetStreamDisabled,
		ErrPermission, ErrStorageFull, ErrTooLarge, ErrBucketMismatch, ErrConnectionClosed,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Codes of the JetStream API (nats-server errors.json) that nats.go has no name for.
const (
	codeAccountResources   = 10002
	codeClusterNoPeers     = 10005
	codeInsufficient       = 10023
	codeMaximumStreams     = 10027
	codeMemoryExceeded     = 10028
	codeStorageExceeded    = 10047
	codeMessageExceeds     = 10054
	codeReplicasNotAllowed = 10074
	codeStreamStoreFailed  = 10077
	codeMaxBytesRequired   = 10113
	codeMaxBytesExceeded   = 10122
)

// explain returns this package's error for one of nats.go, with the remedy. It returns an error
// that it does not know as it is. ctx is that of the request, from try.
func (b *Bucket) explain(ctx context.Context, err error) error {
	var api *jetstream.APIError
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case errors.Is(err, ErrPermission), errors.Is(err, ErrConnectionClosed): // it says more
		return err
	case errors.Is(cause, ErrPermission):
		return cause
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining),
		b.nc.IsClosed():
		return fmt.Errorf("%w (%w)", closed(b.nc), err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled),
		errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%w: start nats-server with -js, and enable it for the account (%w)",
			ErrJetStreamDisabled, err)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%w: %s (%w)", ErrBucketNotFound, b.name, err)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: raise the server's max_payload or register less metadata (%w)",
			ErrTooLarge, err)
	case errors.As(err, &api):
		return b.explainCode(api.ErrorCode, stream.IsNodeAway(api), err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return b.Blame(err)
	}
	return err
}

func (b *Bucket) explainCode(code jetstream.ErrorCode, nodeAway bool, err error) error {
	replicas := b.cfg.replicas(b.nc)
	if nodeAway {
		return fmt.Errorf("a server of the cluster is away, "+
			"without which bucket %s can't have %d replicas (%w)",
			b.name, replicas, err)
	}
	switch code {
	case jetstream.JSErrCodeStreamWrongLastSequence, // one replica
		jetstream.JSErrCodeStreamWrongLastSequenceConstant: // several
		return fmt.Errorf("%w (%w)", ErrConflict, err)
	case codeMessageExceeds:
		return fmt.Errorf("%w: raise the bucket's largest value or register less metadata (%w)",
			ErrTooLarge, err)
	case codeClusterNoPeers, codeReplicasNotAllowed:
		return fmt.Errorf("%w: the server or cluster can't hold %d replicas of bucket %s; "+
			"use Replicas(1), or --replicas 1 of kvregistry tenant; more replicas need as many "+
			"servers (%w)", ErrInvalidConfig, replicas, b.name, err)
	case codeMaxBytesRequired:
		return fmt.Errorf("%w: the account wants a limit for each stream: give bucket %s one, "+
			"by the option MaxBytes(n) or kvregistry tenant create --max-bytes n (%w)",
			ErrInvalidConfig, b.name, err)
	case codeMaxBytesExceeded:
		return fmt.Errorf("%w: MaxBytes(%d) is more than the account lets a stream have; "+
			"use a smaller MaxBytes(n) for bucket %s (%w)", ErrInvalidConfig, b.cfg.MaxBytes,
			b.name, err)
	case codeAccountResources, codeInsufficient, codeMaximumStreams, codeMemoryExceeded,
		codeStorageExceeded, codeStreamStoreFailed:
		return fmt.Errorf("%w for bucket %s: raise its or the account's or server's limit, "+
			"free some, or make it with a smaller MaxBytes(n) (%w)", ErrStorageFull, b.name, err)
	}
	return err
}
