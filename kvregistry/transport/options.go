package transport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// Option sets something of a Transport. A bad one is an error of New that wraps [kvregistry.ErrInvalidOption].
type Option func(*options) error

type options struct {
	parts      []kvregistry.Part
	hosts      map[string]host
	base       http.RoundTripper
	dial       func(ctx context.Context, network, address string) (net.Conn, error)
	serverName func(service string) string
	key        func(*http.Request) string
	onAttempt  func(Attempt)
	status     map[int]bool // those that are retried
	attempts   int
	share      float64 // of the budget
	perSecond  float64
}

// host is what a host of URLs stands for.
type host struct {
	service string
	parts   []kvregistry.Part
}

// The defaults of the options.
const (
	DefaultAttempts  = 3
	DefaultShare     = 0.2
	DefaultPerSecond = 1
)

// connectTime is how long a connection to one instance may take to be made, where it is made by the package's own base.
const connectTime = 5 * time.Second

// idleMost is how many idle connections to one instance the package's own base keeps. They go when nobody used them for the base's IdleConnTimeout.
const idleMost = 100

func newOptions(opts []Option) (*options, error) {
	o := &options{
		hosts: map[string]host{}, status: map[int]bool{}, dial: new(net.Dialer).DialContext,
		attempts: DefaultAttempts, share: DefaultShare, perSecond: DefaultPerSecond,
	}
	for _, opt := range opts {
		if opt == nil {
			return nil, fmt.Errorf("%w: it is nil", kvregistry.ErrInvalidOption)
		}
		if err := opt(o); err != nil {
			return nil, err
		}
	}
	if o.base == nil {
		o.base = defaultBase()
	}
	if base, ok := o.base.(*http.Transport); o.serverName != nil && (!ok || base.DialTLSContext != nil) {
		return nil, fmt.Errorf("%w: ServerName together with Base(%T); only an *http.Transport that makes its TLS connections itself can be told a name, set it in the TLS configuration of this one",
			kvregistry.ErrInvalidOption, o.base)
	}
	return o, nil
}

// refuseParts says why a look-up would refuse parts of Choose or of a Host. One of Everything looks at its parts, and then refuses the name: it starts no watch.
func (o *options) refuseParts(reg *kvregistry.Registry) error {
	lists := [][]kvregistry.Part{o.parts}
	for _, h := range o.hosts {
		lists = append(lists, h.parts)
	}
	for _, parts := range lists {
		if _, err := reg.Lookup(kvregistry.Everything, parts...); errors.Is(err, kvregistry.ErrInvalidOption) {
			return err
		}
	}
	return nil
}

// defaultBase is http.DefaultTransport for calls among services: more idle connections per instance than two, and no half minute for an instance whose machine is
// gone. Those of all instances are not bounded: of more instances than the bound, each would have lost its connection when its turn comes again.
func defaultBase() http.RoundTripper {
	std, ok := http.DefaultTransport.(*http.Transport)
	if !ok { // somebody put one of their own there
		return http.DefaultTransport
	}
	base := std.Clone()
	base.MaxIdleConnsPerHost, base.MaxIdleConns = idleMost, 0
	if dial := base.DialContext; dial != nil {
		base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, connectTime)
			defer cancel()
			return dial(ctx, network, address)
		}
	}
	return base
}

// Choose is how an instance is chosen: the filters, the picker and what else a [kvregistry.Lookup] is made of, of every service that no [Host] gives
// parts of its own. By default the instances are taken in turn.
func Choose(parts ...kvregistry.Part) Option {
	return func(o *options) error {
		o.parts = slices.Clone(parts)
		return nil
	}
}

// Host has a host of URLs stand for a service, with parts of its own in place of those of [Choose] where there are any. It is how a
// service is reached whose name can be no host of a URL, and how one service has several ways to be chosen from:
//
//	transport.Host("billing-v2", "Billing (EU)", kvregistry.WithVersion("2"))
//
// The host is compared letter by letter, with its port where it has one.
func Host(name, service string, parts ...kvregistry.Part) Option {
	return func(o *options) error {
		if name == "" || service == "" {
			return fmt.Errorf("%w: Host(%q, %q); both must be there", kvregistry.ErrInvalidOption, name, service)
		}
		if old, ok := o.hosts[name]; ok {
			return fmt.Errorf("%w: Host(%q, %q); the host stands for %q already", kvregistry.ErrInvalidOption, name, service, old.service)
		}
		o.hosts[name] = host{service, slices.Clone(parts)}
		return nil
	}
}

// Base is what sends the requests, once it is known to which instance. The default is a clone of http.DefaultTransport that keeps up to 100 idle
// connections per instance and gives up after 5 s to make one.
//
// A base has to keep the contract of http.RoundTripper. One that tells httptrace's GetConn and GotConn, as that of net/http does, lets the
// Transport know that nothing was sent.
func Base(base http.RoundTripper) Option {
	return func(o *options) error {
		if base == nil {
			return fmt.Errorf("%w: Base is nil; leave it out", kvregistry.ErrInvalidOption)
		}
		o.base = base
		return nil
	}
}

// DialWith makes the connections of [Transport.DialContext]; tls.Dialer has such a function, too. The default is that of net.Dialer.
func DialWith(dial func(ctx context.Context, network, address string) (net.Conn, error)) Option {
	return func(o *options) error {
		if dial == nil {
			return fmt.Errorf("%w: DialWith is nil; leave it out", kvregistry.ErrInvalidOption)
		}
		o.dial = dial
		return nil
	}
}

// ServerName is the name that the certificate of a service's instances has to be valid for, and that TLS tells them: f is asked the first time
// that a service is called. By default, and where f gives none, it is the host of the instance's own URL or Address, be it an IP address. It needs a [Base] that is an
// *http.Transport without a DialTLSContext of its own; each service gets a clone of it.
func ServerName(f func(service string) string) Option {
	return func(o *options) error {
		if f == nil {
			return fmt.Errorf("%w: ServerName is nil; leave it out", kvregistry.ErrInvalidOption)
		}
		o.serverName = f
		return nil
	}
}

// Key gives the key of a request, for pickers that choose by one: kvregistry.Request.Key.
func Key(f func(*http.Request) string) Option {
	return func(o *options) error {
		if f == nil {
			return fmt.Errorf("%w: Key is nil; leave it out", kvregistry.ErrInvalidOption)
		}
		o.key = f
		return nil
	}
}

// Attempts is to how many instances a request may be sent, and how many are dialled, at the most: [DefaultAttempts] by default, 1 is without retries.
func Attempts(n int) Option {
	return func(o *options) error {
		if n < 1 {
			return fmt.Errorf("%w: Attempts(%d); use 1 or more", kvregistry.ErrInvalidOption, n)
		}
		o.attempts = n
		return nil
	}
}

// Budget bounds the retries of each service: over some 10 s there are at most share times as many as there are requests, and perSecond more in each second.
// So a service that is down gets no more than share times more requests than it gets otherwise. What is left of the last
// 10 s may be used at once. The defaults are [DefaultShare] and [DefaultPerSecond].
func Budget(share, perSecond float64) Option {
	return func(o *options) error {
		for _, v := range []float64{share, perSecond} {
			if !(v >= 0) || math.IsInf(v, 1) { // NaN is neither
				return fmt.Errorf("%w: Budget(%v, %v); both must be 0 or more", kvregistry.ErrInvalidOption, share, perSecond)
			}
		}
		o.share, o.perSecond = share, perSecond
		return nil
	}
}

// retryable are the statuses that say that another instance may do better.
var retryable = map[int]bool{http.StatusBadGateway: true, http.StatusServiceUnavailable: true, http.StatusGatewayTimeout: true}

// RetryStatus has idempotent requests that are answered with one of the statuses sent to another instance: 502, 503 and 504 where none is given. Where there is
// no other, or no retry left, the response is returned as it is. By default every response is.
func RetryStatus(codes ...int) Option {
	return func(o *options) error {
		if len(codes) == 0 {
			maps.Copy(o.status, retryable)
		}
		for _, code := range codes {
			if code < 400 || code > 599 {
				return fmt.Errorf("%w: RetryStatus(%d); use statuses of failures, 400 to 599", kvregistry.ErrInvalidOption, code)
			}
			o.status[code] = true
		}
		return nil
	}
}

// OnAttempt has f called after each sending of a request, before its body is read: for logs, metrics and traces. It is called by the goroutine that
// called RoundTrip, which waits for it, and by many at once.
func OnAttempt(f func(Attempt)) Option {
	return func(o *options) error {
		if f == nil {
			return fmt.Errorf("%w: OnAttempt is nil; leave it out", kvregistry.ErrInvalidOption)
		}
		o.onAttempt = f
		return nil
	}
}

// Attempt is one sending of a request to one instance.
type Attempt struct {
	Request  *http.Request      // the caller's
	Service  kvregistry.Service // the instance
	Number   int                // from 1
	Response *http.Response     // nil where Err is not; its body is not to be read
	Err      error              // why there is no response
	Took     time.Duration      // until the response's header, or the error
}
