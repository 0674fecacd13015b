package wrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/kvregistry"
)

// openTime is how long a server that is there may take to open the registry before the program is
// started nevertheless.
const openTime = 5 * time.Second

// target is the registry in which a command registers or holds something.
type target struct {
	cli.Login
	tenant string
	ttl    time.Duration
	log    *slog.Logger
	conn   *nats.Conn
	fenced chan struct{} // has one when another process took an instance of this one over
}

func (t *target) flags(fs *pflag.FlagSet) {
	fs.StringVar(&t.tenant, "tenant", kvregistry.DefaultTenant, "`name` of the tenant")
	fs.DurationVar(&t.ttl, "ttl", kvregistry.DefaultTTL, "the `time` after which the registry "+
		"forgets this process if it is dead: whole seconds from 2s to 24h")
	t.Flags(fs)
}

// connect connects, even if no server is there yet. What is logged at a level goes to std.Err.
func (t *target) connect(std cli.Streams, command string, level slog.Level) (err error) {
	t.fenced = make(chan struct{}, 1)
	t.log = slog.New(slog.NewTextHandler(std.Err, &slog.HandlerOptions{Level: level}))
	t.conn, err = t.Connect(command, append(cli.Lasting(t.log), nats.RetryOnFailedConnect(true))...)
	return err
}

// open opens the registry. It returns nil if the server does not answer in time.
func (t *target) open(ctx context.Context) (*kvregistry.Registry, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	reg, err := kvregistry.New(ctx, t.conn, kvregistry.Tenant(t.tenant), kvregistry.TTL(t.ttl),
		kvregistry.Logger(t.log), kvregistry.OnFenced(t.fence))
	switch {
	case errors.Is(err, kvregistry.ErrInvalidOption), errors.Is(err, kvregistry.ErrInvalidName):
		return nil, cli.Usagef("%w", err)
	case err == nil || slices.ContainsFunc(final, func(f error) bool { return errors.Is(err, f) }):
		return reg, err
	}
	t.log.Warn("kvregistry: NATS does not answer yet", "cause", err)
	return nil, nil
}

// fence takes the news that another process has registered an instance of this one.
func (t *target) fence(kvregistry.Service) {
	select {
	case t.fenced <- struct{}{}:
	default: // one is enough
	}
}

// takenOver is the error of an instance that another process took over.
func takenOver(s kvregistry.Service) error {
	return fmt.Errorf("another process has registered %s/%s", s.Name, s.ID)
}

// final are the errors of an opening that another try does not mend.
var final = []error{kvregistry.ErrConnectionClosed, kvregistry.ErrServerTooOld,
	kvregistry.ErrJetStreamOff, kvregistry.ErrPermission, kvregistry.ErrStorageFull,
	kvregistry.ErrBucketMismatch}

// await opens the registry, as soon as the server answers.
func (t *target) await(ctx context.Context) (*kvregistry.Registry, error) {
	for {
		if reg, err := t.open(ctx); reg != nil || err != nil {
			return reg, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
