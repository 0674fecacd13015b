package bridge

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
)

// Option sets something of a bridge. A bad one is an error of New.
type Option func(*options) error

type options struct {
	tenant   string
	prefix   string
	ttl      time.Duration
	interval time.Duration
	most     int
	plain    *nats.Conn
	logger   *slog.Logger
	registry []kvregistry.Option
}

// The defaults of the options. Prefix and interval are the plain registry's.
const (
	DefaultPrefix       = "registry"
	DefaultInterval     = usual
	DefaultMaxInstances = 10_000
)

// longestPrefix bounds what stands before a name in a subject.
const longestPrefix = 128

func newOptions(nc *nats.Conn, opts []Option) (options, error) {
	o := options{
		tenant: kvregistry.DefaultTenant, prefix: DefaultPrefix, ttl: kvregistry.DefaultTTL, interval: DefaultInterval, most: DefaultMaxInstances, plain: nc,
		logger: slog.Default(),
	}
	for _, opt := range opts {
		if opt == nil {
			return o, fmt.Errorf("%w: it is nil", kvregistry.ErrInvalidOption)
		}
		if err := opt(&o); err != nil {
			return o, err
		}
	}
	return o, nil
}

// Tenant is the tenant that is joined with the plain processes. The default is [kvregistry.DefaultTenant].
func Tenant(name string) Option {
	return func(o *options) error {
		o.tenant = name // kvregistry.Tenant checks it
		return nil
	}
}

// Prefix is what the plain processes' subjects begin with, their main topic: tokens of a NATS subject, [DefaultPrefix] by default. Tenants that are to be kept apart need
// prefixes of their own.
func Prefix(prefix string) Option {
	return func(o *options) error {
		if !sayable(prefix) || len(prefix) > longestPrefix {
			return fmt.Errorf("%w: Prefix(%.40q); use tokens of a subject like acme.registry, %d bytes at the most", kvregistry.ErrInvalidOption, prefix, longestPrefix)
		}
		o.prefix = prefix
		return nil
	}
}

// TTL is that of the lease of what is heard, [kvregistry.DefaultTTL] by default. Give all bridges of a tenant and prefix the same: an eighth of it, a second at
// the most, is the time between two signs of life that they give each other.
func TTL(ttl time.Duration) Option {
	return func(o *options) error {
		o.ttl = ttl // kvregistry.TTL checks it
		return nil
	}
}

// Interval is the time between two times that a plain process hears of an instance of the tenant, [DefaultInterval] by default. It forgets the instance after one and a half of it.
func Interval(d time.Duration) Option {
	return func(o *options) error {
		if d < shortest || d > longest {
			return fmt.Errorf("%w: Interval(%s); use %s to %s", kvregistry.ErrInvalidOption, d, shortest, longest)
		}
		o.interval = d
		return nil
	}
}

// MaxInstances bounds what plain processes can make the bridge register: how many instances at a time, and how many new ones or changes in any ten minutes beyond
// that, [DefaultMaxInstances] by default. What is more is passed over, counted and logged, and may be taken when it is said again.
func MaxInstances(n int) Option {
	return func(o *options) error {
		if n <= 0 {
			return fmt.Errorf("%w: MaxInstances(%d); it must be positive", kvregistry.ErrInvalidOption, n)
		}
		o.most = n
		return nil
	}
}

// Plain is the connection to the plain processes, where they are on another server or account than the bucket. It stays the caller's.
func Plain(nc *nats.Conn) Option {
	return func(o *options) error {
		if nc == nil {
			return fmt.Errorf("Plain: %w: pass one that nats.Connect returned, or leave it out", kvregistry.ErrNilConnection)
		}
		o.plain = nc
		return nil
	}
}

// Logger is told when the bridge begins or stops to lead, and of what it passes over. The default is slog.Default.
func Logger(l *slog.Logger) Option {
	return func(o *options) error {
		if l == nil {
			return fmt.Errorf("%w: Logger is nil; leave it out, or use slog.DiscardHandler", kvregistry.ErrInvalidOption)
		}
		o.logger = l
		return nil
	}
}

// With sets options of the bridge's registry that are not named here.
func With(opts ...kvregistry.Option) Option {
	return func(o *options) error {
		o.registry = append(o.registry, opts...)
		return nil
	}
}

// signs is the time between two signs of life: three of them may be missed, and there is time for a successor before the lease runs out.
func (o *options) signs() time.Duration { return min(o.ttl/8, time.Second) }
