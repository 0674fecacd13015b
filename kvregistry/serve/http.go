package serve

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// DefaultGrace is how long a stop may take. Kubernetes kills a process 30 s after it sent SIGTERM.
const DefaultGrace = 25 * time.Second

// Option sets one property of [HTTP].
type Option func(*options) error

type options struct {
	grace, settle time.Duration
	listener      net.Listener
	signals       []os.Signal
	until         []kvregistry.DrainOption
}

// Grace sets how long a stop may take in all, the settle time included; [DefaultGrace] by default.
// Requests that are under way at its end are cut off.
func Grace(d time.Duration) Option {
	return func(o *options) error {
		if d <= 0 {
			return fmt.Errorf("%w: Grace(%s); it must be positive", kvregistry.ErrInvalidOption, d)
		}
		o.grace = d
		return nil
	}
}

// Settle sets the [kvregistry.Settle] of the stop.
func Settle(d time.Duration) Option {
	return func(o *options) error {
		if d < 0 {
			return fmt.Errorf("%w: Settle(%s); it must not be negative",
				kvregistry.ErrInvalidOption, d)
		}
		o.settle = d
		return nil
	}
}

// Until adds a [kvregistry.Until] to the stop: f runs between the settle time and the shutdown.
func Until(f func(context.Context) error) Option {
	return func(o *options) error {
		if f == nil {
			return fmt.Errorf("%w: Until is nil", kvregistry.ErrInvalidOption)
		}
		o.until = append(o.until, kvregistry.Until(f))
		return nil
	}
}

// Listener sets the listener to serve, in place of one on the server's Addr. HTTP closes it at the
// end.
func Listener(l net.Listener) Option {
	return func(o *options) error {
		if l == nil {
			return fmt.Errorf("%w: Listener is nil; leave it out to listen on the server's Addr",
				kvregistry.ErrInvalidOption)
		}
		o.listener = l
		return nil
	}
}

// Signals sets the signals that stop the server, SIGTERM and SIGINT by default. Without any, only
// ctx stops it.
func Signals(list ...os.Signal) Option {
	return func(o *options) error {
		o.signals = list
		return nil
	}
}

// HTTP serves srv as the service s, and returns when srv has stopped. In order:
//
//   - it listens, on srv.Addr;
//   - it registers s; if s has neither Address nor URL, with the listener's address
//     ([kvregistry.FromListener]), and with the URL of that address;
//   - it serves, with TLS if srv.TLSConfig is set, until ctx ends or the process gets SIGTERM or
//     SIGINT;
//   - it drains: s is marked draining, new requests are still served for the settle time, and each
//     connection is closed after its next answer;
//   - it shuts srv down, which waits for the requests under way;
//   - it unregisters s.
//
// The error is nil if all of that was done. A second signal during the stop ends the process, as it
// would without HTTP. If NATS does not answer at the start, srv serves, and is registered as soon
// as NATS answers. If s cannot be registered, or srv cannot serve, HTTP stops and returns the
// reason. Nothing else may use srv, during HTTP or after it.
func HTTP(ctx context.Context, reg *kvregistry.Registry, srv *http.Server, s kvregistry.Service,
	opts ...Option) error {
	o := options{grace: DefaultGrace, settle: kvregistry.DefaultSettle,
		signals: []os.Signal{syscall.SIGTERM, os.Interrupt}}
	err := o.set(reg, srv, opts)
	if err == nil {
		err = o.serve(ctx, reg, srv, s)
	}
	if err != nil {
		return fmt.Errorf("serve: service %q: %w", s.Name, err)
	}
	return nil
}

// set sets options, and refuses those that cannot be served.
func (o *options) set(reg *kvregistry.Registry, srv *http.Server, opts []Option) error {
	for _, opt := range opts {
		if opt == nil {
			return fmt.Errorf("%w: the option is nil", kvregistry.ErrInvalidOption)
		}
		if err := opt(o); err != nil {
			return err
		}
	}
	switch {
	case reg == nil || srv == nil:
		return fmt.Errorf("%w: HTTP needs a registry and a server", kvregistry.ErrInvalidOption)
	case bare(srv.TLSConfig):
		return fmt.Errorf("%w: the server's TLSConfig has no certificate; set its Certificates "+
			"or GetCertificate, or leave TLSConfig nil to serve without TLS",
			kvregistry.ErrInvalidOption)
	case o.grace <= o.settle:
		return fmt.Errorf("%w: Grace(%s) with Settle(%s) leaves requests no time to end; set a "+
			"longer Grace", kvregistry.ErrInvalidOption, o.grace, o.settle)
	}
	return nil
}

// serve serves and registers httpServer, and stops it when ctx ends or a signal comes.
func (o *options) serve(ctx context.Context, reg *kvregistry.Registry, httpServer *http.Server,
	s kvregistry.Service) error {
	l, err := o.listen(httpServer)
	if err != nil {
		return err
	}
	letGo := func() {} // of the signals
	if len(o.signals) > 0 {
		ctx, letGo = signal.NotifyContext(ctx, o.signals...)
	}
	defer letGo()
	// Before it serves, because serving sets TLSConfig.
	if s = located(s, l, httpServer.TLSConfig != nil); s.ID == "" {
		s.ID = rand.Text()[:16]
	}
	srv := start(httpServer, l)
	unregister, err := register(ctx, reg, s)
	if err != nil {
		_ = srv.Close()
		<-srv.ended
		return err
	}
	select {
	case err := <-srv.ended:
		return errors.Join(fmt.Errorf("the server stopped by itself: %w", err), unregister())
	case <-ctx.Done():
		letGo() // the next signal ends the process
		return o.stop(context.WithoutCancel(ctx), reg, srv, s)
	}
}

// listen returns the listener to serve.
func (o *options) listen(srv *http.Server) (net.Listener, error) {
	if o.listener != nil {
		return o.listener, nil
	}
	return net.Listen("tcp", address(srv))
}

// address returns the address that a server listens on, by the rules of net/http.
func address(srv *http.Server) string {
	if srv.TLSConfig != nil {
		return cmp.Or(srv.Addr, ":https")
	}
	return cmp.Or(srv.Addr, ":http")
}

// bare reports whether a configuration has no certificate, so that no server can start with it.
func bare(c *tls.Config) bool {
	return c != nil && len(c.Certificates) == 0 && c.GetCertificate == nil &&
		c.GetConfigForClient == nil
}

// located sets the address and the URL of a service that has neither.
func located(s kvregistry.Service, l net.Listener, secure bool) kvregistry.Service {
	if s.Address != "" || s.URL != "" {
		return s
	}
	at := kvregistry.FromListener(l, s.Name)
	s.Network, s.Address = at.Network, at.Address
	if at.Network == "tcp" {
		u := url.URL{Scheme: "http", Host: at.Address}
		if secure {
			u.Scheme = "https"
		}
		s.URL = u.String()
	}
	return s
}

// server is an http.Server that serves.
type server struct {
	*http.Server
	ended    chan error // has what Serve returned
	draining atomic.Bool
}

// start serves in the background.
func start(srv *http.Server, l net.Listener) *server {
	s := &server{Server: srv, ended: make(chan error, 1)}
	next := srv.Handler
	if next == nil {
		next = http.DefaultServeMux
	}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() && r.Header.Get("Upgrade") == "" {
			// A client that keeps a connection has to leave it before the shutdown.
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
	go func() { // ends with the server; serve waits
		defer func() { _ = l.Close() }() // a server that cannot start leaves it open
		if srv.TLSConfig != nil {
			s.ended <- srv.ServeTLS(l, "", "")
		} else {
			s.ended <- srv.Serve(l)
		}
	}()
	return s
}

// registerTime is how long the server waits for NATS to acknowledge its registration, before it
// goes on without.
const registerTime = 5 * time.Second

// lastTime is how long a stop waits for a registration that is under way, so that it can be
// drained.
const lastTime = 250 * time.Millisecond

// register registers a server that is up. If NATS does not answer, it goes on without. If ctx ends
// meanwhile, the registration stands, and the stop drains it.
func register(ctx context.Context, reg *kvregistry.Registry,
	s kvregistry.Service) (unregister func() error, err error) {
	type result struct {
		unregister func() error
		err        error
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), registerTime)
	done := make(chan result, 1)
	go func() { // ends with within
		defer cancel()
		unregister, err := reg.RegisterContext(within, s)
		done <- result{unregister, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		select {
		case r = <-done:
		case <-time.After(lastTime):
			return func() error { return nil }, nil
		}
	}
	if !errors.Is(r.err, kvregistry.ErrPending) {
		return r.unregister, r.err
	}
	if ctx.Err() == nil { // the stop has not begun
		reg.Logger().Warn("kvregistry: a server is up, and will be registered when NATS answers",
			"service", s.Name, "instance", s.ID, "cause", r.err)
	}
	return r.unregister, nil
}

// stop drains, shuts down and unregisters.
func (o *options) stop(ctx context.Context, reg *kvregistry.Registry, srv *server,
	s kvregistry.Service) error {
	ctx, cancel := context.WithTimeout(ctx, o.grace)
	defer cancel()
	srv.draining.Store(true)
	err := reg.Drain(ctx, append(o.until, kvregistry.Until(srv.Shutdown),
		kvregistry.Settle(o.settle), kvregistry.Only(s.Name, s.ID))...)
	// It was taken back, or over; the rest was done.
	if errors.Is(err, kvregistry.ErrNotRegistered) {
		err = nil
	}
	_ = srv.Close()
	<-srv.ended
	return err
}
