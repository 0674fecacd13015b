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

// Option sets something of [HTTP].
type Option func(*options) error

type options struct {
	grace, settle time.Duration
	listener      net.Listener
	signals       []os.Signal
	until         []kvregistry.DrainOption
}

// Grace is how long a stop may take in all, the settle time included; [DefaultGrace] by default. What is under way then is cut off.
func Grace(d time.Duration) Option {
	return func(o *options) error {
		if d <= 0 {
			return fmt.Errorf("%w: Grace(%s); it must be positive", kvregistry.ErrInvalidOption, d)
		}
		o.grace = d
		return nil
	}
}

// Settle is [kvregistry.Settle] of the stop.
func Settle(d time.Duration) Option {
	return func(o *options) error {
		if d < 0 {
			return fmt.Errorf("%w: Settle(%s); it must not be negative", kvregistry.ErrInvalidOption, d)
		}
		o.settle = d
		return nil
	}
}

// Until is [kvregistry.Until] of the stop: f is waited for between the settle time and the shutdown.
func Until(f func(context.Context) error) Option {
	return func(o *options) error {
		if f == nil {
			return fmt.Errorf("%w: Until is nil", kvregistry.ErrInvalidOption)
		}
		o.until = append(o.until, kvregistry.Until(f))
		return nil
	}
}

// Listener is one to serve, in place of one on the server's Addr. It is closed at the end.
func Listener(l net.Listener) Option {
	return func(o *options) error {
		if l == nil {
			return fmt.Errorf("%w: Listener is nil; leave it out to listen on the server's Addr", kvregistry.ErrInvalidOption)
		}
		o.listener = l
		return nil
	}
}

// Signals are those that stop the server, SIGTERM and SIGINT by default. Without any, ctx alone does.
func Signals(list ...os.Signal) Option {
	return func(o *options) error {
		o.signals = list
		return nil
	}
}

// HTTP serves srv as the service s, and returns when it has stopped. In order:
//
//   - it listens, on srv.Addr;
//   - it registers s, with the listener's address ([kvregistry.FromListener]) where s has neither Address nor URL, and that as its URL;
//   - it serves, by TLS where srv.TLSConfig is set, until ctx ends or the process gets SIGTERM or SIGINT;
//   - it drains: s is marked draining, new requests are still served for the settle time, and connections are closed each after its next answer;
//   - it shuts srv down, which waits for the requests under way;
//   - it unregisters s.
//
// The error is nil where all of that was done. A second signal while it stops ends the process, as it would without HTTP. Where NATS does not answer when the service
// starts, it serves, and is registered as soon as it can be. Where it can't be registered, or srv can't serve, HTTP stops and returns why. srv can't be used again, nor by somebody else meanwhile.
func HTTP(ctx context.Context, reg *kvregistry.Registry, srv *http.Server, s kvregistry.Service, opts ...Option) error {
	o := options{grace: DefaultGrace, settle: kvregistry.DefaultSettle, signals: []os.Signal{syscall.SIGTERM, os.Interrupt}}
	err := o.set(reg, srv, opts)
	if err == nil {
		err = o.serve(ctx, reg, srv, s)
	}
	if err != nil {
		return fmt.Errorf("serve: service %q: %w", s.Name, err)
	}
	return nil
}

// set sets options, and refuses what could not be served.
func (o *options) set(reg *kvregistry.Registry, srv *http.Server, opts []Option) error {
	for _, opt := range opts {
		if opt == nil {
			return fmt.Errorf("%w: it is nil", kvregistry.ErrInvalidOption)
		}
		if err := opt(o); err != nil {
			return err
		}
	}
	switch {
	case reg == nil || srv == nil:
		return fmt.Errorf("%w: it needs a registry and a server", kvregistry.ErrInvalidOption)
	case bare(srv.TLSConfig):
		return fmt.Errorf("%w: the server's TLSConfig has no certificate; set its Certificates or GetCertificate, or leave TLSConfig nil to serve without TLS", kvregistry.ErrInvalidOption)
	case o.grace <= o.settle:
		return fmt.Errorf("%w: Grace(%s) with Settle(%s) leaves requests no time to end; give more grace", kvregistry.ErrInvalidOption, o.grace, o.settle)
	}
	return nil
}

// serve registers a server that serves, and stops it when it is time.
func (o *options) serve(ctx context.Context, reg *kvregistry.Registry, httpServer *http.Server, s kvregistry.Service) error {
	l, err := o.listen(httpServer)
	if err != nil {
		return err
	}
	letGo := func() {} // of the signals
	if len(o.signals) > 0 {
		ctx, letGo = signal.NotifyContext(ctx, o.signals...)
	}
	defer letGo()
	if s = located(s, l, httpServer.TLSConfig != nil); s.ID == "" { // before it serves, which sets that
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
		return errors.Join(fmt.Errorf("it stopped serving by itself: %w", err), unregister())
	case <-ctx.Done():
		letGo() // the next one ends the process
		return o.stop(context.WithoutCancel(ctx), reg, srv, s)
	}
}

// listen is the listener to serve.
func (o *options) listen(srv *http.Server) (net.Listener, error) {
	if o.listener != nil {
		return o.listener, nil
	}
	return net.Listen("tcp", address(srv))
}

// address is where a server listens, as net/http has it.
func address(srv *http.Server) string {
	if srv.TLSConfig != nil {
		return cmp.Or(srv.Addr, ":https")
	}
	return cmp.Or(srv.Addr, ":http")
}

// bare reports whether a configuration is one by which no server can begin.
func bare(c *tls.Config) bool {
	return c != nil && len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil
}

// located fills in where a service is, unless it says so itself.
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

// server is an http.Server at work.
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
			w.Header().Set("Connection", "close") // who keeps a connection, and looks up no more, is to leave before it is shut
		}
		next.ServeHTTP(w, r)
	})
	go func() { // ends with the server; serve waits
		defer func() { _ = l.Close() }() // a server that can't begin leaves it open
		if srv.TLSConfig != nil {
			s.ended <- srv.ServeTLS(l, "", "")
		} else {
			s.ended <- srv.Serve(l)
		}
	}()
	return s
}

// registerTime is how long the server waits for NATS to acknowledge its registration, before it goes on without.
const registerTime = 5 * time.Second

// lastTime is how long a stop waits for a registration that is under way, so that it can be drained.
const lastTime = 250 * time.Millisecond

// register registers a server that is up. If NATS does not answer, it goes on without. If ctx ends
// meanwhile, the registration stands: the stop drains it.
func register(ctx context.Context, reg *kvregistry.Registry, s kvregistry.Service) (unregister func() error, err error) {
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
	if ctx.Err() == nil { // it does not stop already
		reg.Logger().Warn("kvregistry: a server is up, and is registered as soon as NATS answers", "service", s.Name, "instance", s.ID, "cause", r.err)
	}
	return r.unregister, nil
}

// stop drains, shuts down and unregisters.
func (o *options) stop(ctx context.Context, reg *kvregistry.Registry, srv *server, s kvregistry.Service) error {
	ctx, cancel := context.WithTimeout(ctx, o.grace)
	defer cancel()
	srv.draining.Store(true)
	err := reg.Drain(ctx, append(o.until, kvregistry.Until(srv.Shutdown), kvregistry.Settle(o.settle), kvregistry.Only(s.Name, s.ID))...)
	if errors.Is(err, kvregistry.ErrNotRegistered) { // somebody else took it back, or over; the rest was done
		err = nil
	}
	_ = srv.Close()
	<-srv.ended
	return err
}
