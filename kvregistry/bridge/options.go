package bridge

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
)

// Option sets one property of a bridge. An invalid option is an error of [New].
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

// The defaults of the options. The prefix and the interval are the plain registry's.
const (
	DefaultPrefix       = "registry"
	DefaultInterval     = usual
	DefaultMaxInstances = 10_000
)

// longestPrefix bounds the bytes before a name in a subject.
const longestPrefix = 128

func newOptions(nc *nats.Conn, opts []Option) (options, error) {
	o := options{
		tenant: kvregistry.DefaultTenant, prefix: DefaultPrefix, ttl: kvregistry.DefaultTTL,
		interval: DefaultInterval, most: DefaultMaxInstances, plain: nc,
		logger: slog.Default(),
	}
	for _, opt := range opts {
		if opt == nil {
			return o, fmt.Errorf("%w: the option is nil", kvregistry.ErrInvalidOption)
		}
		if err := opt(&o); err != nil {
			return o, err
		}
	}
	return o, nil
}

// Tenant sets the tenant that is joined with the plain processes. The default is
// [kvregistry.DefaultTenant].
func Tenant(name string) Option {
	return func(o *options) error {
		o.tenant = name // kvregistry.Tenant checks it
		return nil
	}
}

// Prefix sets the prefix of the plain processes' subjects, which is their main topic: tokens of a
// NATS subject, [DefaultPrefix] by default. Tenants that are to be kept apart need prefixes of
// their own.
func Prefix(prefix string) Option {
	return func(o *options) error {
		if !sayable(prefix) || len(prefix) > longestPrefix {
			return fmt.Errorf("%w: Prefix(%.40q); use tokens of a subject like acme.registry, at "+
				"most %d bytes", kvregistry.ErrInvalidOption, prefix, longestPrefix)
		}
		o.prefix = prefix
		return nil
	}
}

// TTL sets the TTL of the lease of what is heard, [kvregistry.DefaultTTL] by default. Give all
// bridges of a tenant and prefix the same. An eighth of it, at most a second, is the time between
// two signs of life of a bridge.
func TTL(ttl time.Duration) Option {
	return func(o *options) error {
		o.ttl = ttl // kvregistry.TTL checks it
		return nil
	}
}

// Interval sets the time after which a plain process hears again of an instance of the tenant,
// [DefaultInterval] by default. A plain process forgets the instance after one and a half
// intervals.
func Interval(d time.Duration) Option {
	return func(o *options) error {
		if d < shortest || d > longest {
			return fmt.Errorf("%w: Interval(%s); use %s to %s", kvregistry.ErrInvalidOption,
				d, shortest, longest)
		}
		o.interval = d
		return nil
	}
}

// MaxInstances bounds what plain processes can make the bridge register, [DefaultMaxInstances] by
// default: how many instances at a time, and how many new ones or changes in any ten minutes beyond
// that. What exceeds it is skipped, counted and logged, and may be taken when it is said again.
func MaxInstances(n int) Option {
	return func(o *options) error {
		if n <= 0 {
			return fmt.Errorf("%w: MaxInstances(%d); it must be positive",
				kvregistry.ErrInvalidOption, n)
		}
		o.most = n
		return nil
	}
}

// Plain sets the connection to the plain processes, if they are on another server or account than
// the bucket. The caller keeps it.
func Plain(nc *nats.Conn) Option {
	return func(o *options) error {
		if nc == nil {
			return fmt.Errorf("Plain: %w: pass one that nats.Connect returned, or leave it out",
				kvregistry.ErrNilConnection)
		}
		o.plain = nc
		return nil
	}
}

// Logger sets the logger for when the bridge begins or stops to lead, and for what it skips. The
// default is slog.Default.
func Logger(l *slog.Logger) Option {
	return func(o *options) error {
		if l == nil {
			return fmt.Errorf("%w: Logger is nil; leave it out, or use slog.DiscardHandler",
				kvregistry.ErrInvalidOption)
		}
		o.logger = l
		return nil
	}
}

// With adds options of the bridge's registry for which the bridge has no option.
func With(opts ...kvregistry.Option) Option {
	return func(o *options) error {
		o.registry = append(o.registry, opts...)
		return nil
	}
}

// signs returns the time between two signs of life. Three of them may be missed, and a successor
// still has time before the lease runs out.
func (o *options) signs() time.Duration { return min(o.ttl/8, time.Second) }
