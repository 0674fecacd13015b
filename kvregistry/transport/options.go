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

// Option sets one property of a Transport. An invalid option makes [New] return an error that wraps
// [kvregistry.ErrInvalidOption].
type Option func(*options) error

type options struct {
	parts      []kvregistry.Part
	hosts      map[string]host
	base       http.RoundTripper
	dial       func(ctx context.Context, network, address string) (net.Conn, error)
	endpoint   string
	serverName func(service string) string
	key        func(*http.Request) string
	onAttempt  func(Attempt)
	status     map[int]bool // that are retried
	attempts   int
	share      float64 // of the budget
	perSecond  float64
}

// host is the service that a host of URLs stands for.
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

// connectTime is how long connecting to one instance may take with the package's own base.
const connectTime = 5 * time.Second

// idleMost is how many idle connections to one instance the package's own base keeps, each for the
// base's IdleConnTimeout.
const idleMost = 100

func newOptions(opts []Option) (*options, error) {
	o := &options{
		hosts: map[string]host{}, status: map[int]bool{}, dial: new(net.Dialer).DialContext,
		attempts: DefaultAttempts, share: DefaultShare, perSecond: DefaultPerSecond,
	}
	for _, opt := range opts {
		if opt == nil {
			return nil, fmt.Errorf("%w: the option is nil", kvregistry.ErrInvalidOption)
		}
		if err := opt(o); err != nil {
			return nil, err
		}
	}
	if o.base == nil {
		o.base = defaultBase()
	}
	if base, ok := o.base.(*http.Transport); o.serverName != nil &&
		(!ok || base.DialTLSContext != nil) {
		return nil, fmt.Errorf("%w: ServerName together with Base(%T); it needs an "+
			"*http.Transport that makes its TLS connections itself; set the name in the TLS "+
			"configuration of this one",
			kvregistry.ErrInvalidOption, o.base)
	}
	return o, nil
}

// refuseParts returns the error of a look-up with the parts of Choose or of a Host. A look-up of
// Everything checks its parts and then refuses the name, so it starts no watch.
func (o *options) refuseParts(reg *kvregistry.Registry) error {
	lists := [][]kvregistry.Part{o.parts}
	for _, h := range o.hosts {
		lists = append(lists, h.parts)
	}
	for _, parts := range lists {
		if _, err := reg.Lookup(kvregistry.Everything, parts...); errors.Is(err,
			kvregistry.ErrInvalidOption) {
			return err
		}
	}
	return nil
}

// defaultBase returns http.DefaultTransport with changes for calls among services. It keeps more
// than two idle connections per instance, and waits no half minute for an instance whose machine is
// gone. The idle connections of all instances are not bounded: with more instances than the bound,
// each would lose its connection before its next turn.
func defaultBase() http.RoundTripper {
	std, ok := http.DefaultTransport.(*http.Transport)
	if !ok { // the program put its own there
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

// Choose sets how an instance is chosen: the filters, the picker and the other parts of a
// [kvregistry.Lookup]. It applies to every service for which no [Host] has parts. By default the
// instances take turns.
func Choose(parts ...kvregistry.Part) Option {
	return func(o *options) error {
		o.parts = slices.Clone(parts)
		return nil
	}
}

// Host makes a host of URLs stand for a service. Its parts, if there are any, replace those of
// [Choose]. Use it for a service whose name cannot be the host of a URL, and for several ways to
// choose among a service's instances:
//
//	transport.Host("billing-v2", "Billing (EU)", kvregistry.WithVersion("2"))
//
// The host is compared byte by byte, with its port if it has one.
func Host(name, service string, parts ...kvregistry.Part) Option {
	return func(o *options) error {
		if name == "" || service == "" {
			return fmt.Errorf("%w: Host(%q, %q); neither may be empty", kvregistry.ErrInvalidOption,
				name, service)
		}
		if old, ok := o.hosts[name]; ok {
			return fmt.Errorf("%w: Host(%q, %q); the host stands for %q already",
				kvregistry.ErrInvalidOption, name, service, old.service)
		}
		o.hosts[name] = host{service, slices.Clone(parts)}
		return nil
	}
}

// Endpoint has instances called at one of their [kvregistry.Service.Endpoints], in place of their
// Address or URL. Instances without an endpoint of the name are not called. The name may not be
// empty.
func Endpoint(name string) Option {
	return func(o *options) error {
		if name == "" {
			return fmt.Errorf("%w: the name of Endpoint is empty; leave it out",
				kvregistry.ErrInvalidOption)
		}
		o.endpoint = name
		return nil
	}
}

// Base sets what sends the requests, after an instance was chosen. The default is a clone of
// http.DefaultTransport that keeps up to 100 idle connections per instance and gives up a
// connection attempt after 5 s.
//
// A base has to keep the contract of http.RoundTripper. If it calls httptrace's GetConn and
// GotConn, as that of net/http does, the Transport knows when nothing was sent.
func Base(base http.RoundTripper) Option {
	return func(o *options) error {
		if base == nil {
			return fmt.Errorf("%w: Base is nil; leave it out", kvregistry.ErrInvalidOption)
		}
		o.base = base
		return nil
	}
}

// DialWith sets what makes the connections of [Transport.DialContext], for example the DialContext
// of a tls.Dialer. The default is that of net.Dialer.
func DialWith(dial func(ctx context.Context, network, address string) (net.Conn, error)) Option {
	return func(o *options) error {
		if dial == nil {
			return fmt.Errorf("%w: DialWith is nil; leave it out", kvregistry.ErrInvalidOption)
		}
		o.dial = dial
		return nil
	}
}

// ServerName sets the name that TLS sends to a service's instances, and for which their
// certificates have to be valid. f is called when a service is called for the first time. By
// default, and if f returns "", it is the host of the instance's own URL or Address, even if that
// is an IP address. It needs a [Base] that is an *http.Transport without a DialTLSContext of its
// own. Each service gets a clone of that base.
func ServerName(f func(service string) string) Option {
	return func(o *options) error {
		if f == nil {
			return fmt.Errorf("%w: ServerName is nil; leave it out", kvregistry.ErrInvalidOption)
		}
		o.serverName = f
		return nil
	}
}

// Key sets the function that returns the key of a request, for pickers that choose by a key:
// kvregistry.Request.Key.
func Key(f func(*http.Request) string) Option {
	return func(o *options) error {
		if f == nil {
			return fmt.Errorf("%w: Key is nil; leave it out", kvregistry.ErrInvalidOption)
		}
		o.key = f
		return nil
	}
}

// Attempts sets to how many instances a request may be sent, and how many may be dialled:
// [DefaultAttempts] by default. 1 means no retries.
func Attempts(n int) Option {
	return func(o *options) error {
		if n < 1 {
			return fmt.Errorf("%w: Attempts(%d); use 1 or more", kvregistry.ErrInvalidOption, n)
		}
		o.attempts = n
		return nil
	}
}

// Budget bounds the retries of each service. Over some 10 s there are at most share times as many
// retries as requests, and perSecond more in each second. So a service that is down gets at most
// share times more requests than otherwise. What is left of the last 10 s may be used at once. The
// defaults are [DefaultShare] and [DefaultPerSecond].
func Budget(share, perSecond float64) Option {
	return func(o *options) error {
		for _, v := range []float64{share, perSecond} {
			if !(v >= 0) || math.IsInf(v, 1) { // NaN is neither
				return fmt.Errorf("%w: Budget(%v, %v); both must be 0 or more",
					kvregistry.ErrInvalidOption, share, perSecond)
			}
		}
		o.share, o.perSecond = share, perSecond
		return nil
	}
}

// retryable lists the statuses for which another instance may do better.
var retryable = map[int]bool{http.StatusBadGateway: true, http.StatusServiceUnavailable: true,
	http.StatusGatewayTimeout: true}

// RetryStatus sends an idempotent request to another instance if it is answered with one of the
// statuses; without codes: 502, 503 and 504. If there is no other instance, or no retry left, the
// response is returned as it is. By default every response is returned as it is.
func RetryStatus(codes ...int) Option {
	return func(o *options) error {
		if len(codes) == 0 {
			maps.Copy(o.status, retryable)
		}
		for _, code := range codes {
			if code < 400 || code > 599 {
				return fmt.Errorf("%w: RetryStatus(%d); use statuses of failures, 400 to 599",
					kvregistry.ErrInvalidOption, code)
			}
			o.status[code] = true
		}
		return nil
	}
}

// OnAttempt sets a function that is called after each attempt to send a request, before the body of
// its response is read: for logs, metrics and traces. The goroutine that called RoundTrip calls f
// and waits for it. Many goroutines may call f at once.
func OnAttempt(f func(Attempt)) Option {
	return func(o *options) error {
		if f == nil {
			return fmt.Errorf("%w: OnAttempt is nil; leave it out", kvregistry.ErrInvalidOption)
		}
		o.onAttempt = f
		return nil
	}
}

// Attempt is one attempt to send a request to one instance.
type Attempt struct {
	Request  *http.Request      // the caller's
	Service  kvregistry.Service // the instance
	Number   int                // from 1
	Response *http.Response     // nil if Err is not; f must not read its body
	Err      error              // why there is no response
	Took     time.Duration      // until the response's header, or the error
}
