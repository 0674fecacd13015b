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
	t.FlagsWithin(fs, 10*time.Second, "the longest `time` that the server may take to answer")
}

// FlagsWithin is Flags with another meaning of the option --timeout.
func (t *Target) FlagsWithin(fs *pflag.FlagSet, timeout time.Duration, usage string) {
	fs.StringVar(&t.Tenant, "tenant", kvregistry.DefaultTenant, "`name` of the tenant")
	fs.DurationVar(&t.timeout, "timeout", timeout, usage)
	t.Login.Flags(fs)
}

// Bounded returns ctx with the deadline that the option --timeout sets.
func (t *Target) Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, t.timeout)
}

// Session is a tenant that a command works on.
type Session struct {
	*kvregistry.Registry // observes, and does not reap
	Conn                 *nats.Conn
	Bucket               *tenant.Bucket
}

// Close closes the registry and the connection.
func (s *Session) Close() {
	_ = s.Registry.Close()
	s.Conn.Close()
}

// Open connects, for a command that reads and ends. A tenant that is not there is not made, and the
// error is that of [Nonef].
func (t *Target) Open(ctx context.Context, command string,
	opts ...kvregistry.Option) (*Session, error) {
	return t.open(ctx, command, nil, opts)
}

// OpenLasting is Open for a command that goes on while NATS is away. Its log goes to std.Err.
func (t *Target) OpenLasting(ctx context.Context, std Streams, command string,
	opts ...kvregistry.Option) (*Session, error) {
	log := Logger(true, std.Err)
	return t.open(ctx, command, Lasting(log), append(opts, kvregistry.Logger(log)))
}

func (t *Target) open(ctx context.Context, command string, dial []nats.Option,
	opts []kvregistry.Option) (_ *Session, err error) {
	s := &Session{}
	if s.Conn, err = t.Connect(command, dial...); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Conn.Close()
		}
	}()
	ctx, cancel := t.Bounded(ctx)
	defer cancel()
	if s.Bucket, err = t.exists(ctx, s.Conn); err != nil {
		return nil, err
	}
	opts = append([]kvregistry.Option{kvregistry.Tenant(t.Tenant),
		kvregistry.Logger(slog.New(slog.DiscardHandler)), kvregistry.Timeout(t.timeout),
		kvregistry.WithoutReaping()}, opts...)
	s.Registry, err = kvregistry.New(ctx, s.Conn, opts...)
	if errors.Is(err, kvregistry.ErrInvalidOption) {
		err = Usagef("%w", err)
	}
	return s, err
}

// exists returns the tenant's bucket, or an error if there is none.
func (t *Target) exists(ctx context.Context, nc *nats.Conn) (*tenant.Bucket, error) {
	b, err := tenant.New(nc, t.Tenant, tenant.Config{})
	if err != nil {
		return nil, Usagef("--tenant: %w", err)
	}
	if _, err = b.State(ctx); errors.Is(err, tenant.ErrBucketNotFound) {
		return nil, Nonef("there is no tenant %s: register a service in it, or make it: "+
			"kvregistry tenant create %s", t.Tenant, t.Tenant)
	}
	return b, err
}
