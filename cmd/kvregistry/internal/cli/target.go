package cli

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// Target is the tenant that a command works on, and how it gets there.
type Target struct {
	Login
	Tenant  string
	timeout time.Duration
}

// Flags adds the options of a login, and the tenant.
func (t *Target) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&t.Tenant, "tenant", kvregistry.DefaultTenant, "`name` of the tenant")
	fs.DurationVar(&t.timeout, "timeout", 10*time.Second, "the longest `time` that the server "+
		"may take to answer")
	t.Login.Flags(fs)
}

// Bounded returns ctx with the deadline that the option sets.
func (t *Target) Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, t.timeout)
}

// Open connects and makes a registry that observes the tenant, and does not reap unless opts say
// so. The function closes both. A tenant that is not there is not made, and the error is that of
// [Nonef].
func (t *Target) Open(ctx context.Context, command string,
	opts ...kvregistry.Option) (*kvregistry.Registry, func(), error) {
	nc, err := t.Connect(command)
	if err != nil {
		return nil, nil, err
	}
	reg, err := t.open(ctx, nc, opts)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return reg, func() { _ = reg.Close(); nc.Close() }, nil
}

func (t *Target) open(ctx context.Context, nc *nats.Conn,
	opts []kvregistry.Option) (*kvregistry.Registry, error) {
	ctx, cancel := t.Bounded(ctx)
	defer cancel()
	if err := t.exists(ctx, nc); err != nil {
		return nil, err
	}
	opts = append([]kvregistry.Option{kvregistry.Tenant(t.Tenant),
		kvregistry.Logger(slog.New(slog.DiscardHandler)), kvregistry.Timeout(t.timeout),
		kvregistry.WithoutReaping()}, opts...)
	reg, err := kvregistry.New(ctx, nc, opts...)
	if errors.Is(err, kvregistry.ErrInvalidOption) {
		err = Usage(err)
	}
	return reg, err
}

// exists returns an error if the tenant has no bucket.
func (t *Target) exists(ctx context.Context, nc *nats.Conn) error {
	b, err := tenant.New(nc, t.Tenant, tenant.Config{})
	if err != nil {
		return Usagef("--tenant: %w", err)
	}
	if _, err = b.State(ctx); errors.Is(err, tenant.ErrBucketNotFound) {
		return Nonef("there is no tenant %s: register a service in it, or make it: kvregistry "+
			"tenant create %s", t.Tenant, t.Tenant)
	}
	return err
}
