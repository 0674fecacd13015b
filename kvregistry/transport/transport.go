package transport

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/internal/fault"
)

// Transport sends requests, and makes connections, to services. Any number of goroutines may use
// it. It keeps some state, and the registry's watch, for each service that was called, for as long
// as it lives. So check hosts that come from strangers before you call them.
type Transport struct {
	reg      *kvregistry.Registry
	opt      *options
	services services
	traces   atomic.Bool // the base reports its connections
}

// New makes a Transport for the services that a registry sees. The caller keeps the registry;
// look-ups end when it is closed.
func New(reg *kvregistry.Registry, opts ...Option) (*Transport, error) {
	if reg == nil {
		return nil, fmt.Errorf("transport: %w: the registry is nil", kvregistry.ErrInvalidOption)
	}
	o, err := newOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	if err := o.refuseParts(reg); err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	return &Transport{reg: reg, opt: o, services: services{of: map[callee]*service{}}}, nil
}

// RoundTrip sends a request for http://service/path, or https, to an instance of the service. The
// path is under the instance's URL or, if that is not an HTTP URL, at its Address. A request of
// https is sent with TLS only; one of http as the instance's URL says. The Host header is the
// instance's host and port, unless req.Host differs from the URL's host.
//
// A request that fails is sent to another instance, up to [Attempts] in all and within the
// [Budget], if its context is not over, its body is still available, and one of these holds:
//
//   - nothing was sent, because no connection could be made;
//   - its method is idempotent by RFC 9110 (GET, HEAD, OPTIONS, TRACE, PUT or DELETE), or its
//     header has an Idempotency-Key;
//   - it is idempotent in that sense, and the answer is a status of [RetryStatus].
//
// A body is still available if there is none, if the request has a GetBody, as http.NewRequest sets
// it for a body in memory, or, without an answer, if nothing of it was read yet.
//
// The look-up is told the outcome when the response's body was read to its end or closed: an error,
// a [StatusError] for a status of 502, 503, 504 or of RetryStatus, or nil. The error of RoundTrip
// is an [*Error], or one of [kvregistry.Lookup.PickWith].
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c := call{t: t, req: req, body: newBody(req)}
	defer c.body.end()
	to, err := t.called(req.URL)
	if err != nil {
		return nil, err
	}
	to.budget.request()
	c.walk = walk{to: to, most: t.opt.attempts}
	if t.opt.key != nil {
		c.walk.req.Key = t.opt.key(req)
	}
	return c.run()
}

// called returns the service that a URL names.
func (t *Transport) called(u *url.URL) (*service, error) {
	switch {
	case u == nil:
		return nil, errors.New("transport: the request has no URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("transport: scheme %q; use http://service/path or "+
			"https://service/path", u.Scheme)
	case u.Opaque != "" || u.Host == "":
		return nil, errors.New("transport: the request's URL names no service; use " +
			"http://service/path")
	}
	return t.service(u.Host, way{scheme: u.Scheme})
}

// Health returns the health of the look-ups by what was called: http://service, https://service,
// and service alone for DialContext, followed by a space and the network if one was given.
func (t *Transport) Health() map[string]kvregistry.LookupHealth {
	t.services.mu.RLock()
	defer t.services.mu.RUnlock()
	all := make(map[string]kvregistry.LookupHealth, len(t.services.of))
	for to, s := range t.services.of {
		name := strings.TrimSpace(to.host + " " + to.way.network)
		if to.way.scheme != dial {
			name = to.way.scheme + "://" + to.host
		}
		all[name] = s.lookup.Health()
	}
	return all
}

// CloseIdleConnections closes the connections to instances that no request uses.
func (t *Transport) CloseIdleConnections() {
	t.services.mu.RLock()
	defer t.services.mu.RUnlock()
	for _, s := range t.services.of {
		if base, ok := s.base.(interface{ CloseIdleConnections() }); ok {
			base.CloseIdleConnections()
		}
	}
}

// call is one request on its way.
type call struct {
	t    *Transport
	req  *http.Request
	body body
	walk walk
}

func (c *call) run() (resp *http.Response, err error) {
	try := func(one kvregistry.Service, done func(error)) (again bool, err error) {
		if resp != nil { // kept until there was another instance
			discard(resp)
		}
		resp, again, err = c.attempt(one, done)
		return again, err
	}
	err = c.walk.along(c.req.Context(), try)
	return resp, err
}

// attempt sends the request to an instance, and reports whether another one may be tried.
func (c *call) attempt(one kvregistry.Service,
	done func(error)) (resp *http.Response, again bool, err error) {
	begin := time.Now()
	resp, trace, err := c.send(one)
	if f := c.t.opt.onAttempt; f != nil {
		defer func() {
			f(Attempt{Request: c.req, Service: one, Number: c.walk.been, Response: resp, Err: err,
				Took: time.Since(begin)})
		}()
	}
	if err == nil {
		var fail error
		if c.t.opt.status[resp.StatusCode] || retryable[resp.StatusCode] {
			fail = StatusError(resp.StatusCode)
		}
		follow(c.req.Context(), resp, fail, done)
		return resp, c.t.opt.status[resp.StatusCode] && idempotent(c.req) && c.body.held == nil, nil
	}
	wrong := trace.wrong(c.t.traces.Load()) || c.body.broke()
	if wrong {
		done(unused)
	} else {
		done(outcome(c.req.Context(), err))
	}
	again = !wrong && !fault.Own(err) && (trace.nothingSent() || idempotent(c.req)) &&
		c.body.again()
	return nil, again, c.walk.failure(err)
}

// send has the base send the request to an instance.
func (c *call) send(one kvregistry.Service) (*http.Response, *trace, error) {
	trace := &trace{seen: &c.t.traces}
	root := c.walk.to.way.root(&one) // never nil: the look-up gives only instances that have one
	body, err := c.body.next()
	if err != nil {
		return nil, trace, err
	}
	out := c.req.WithContext(trace.in(c.req.Context()))
	out.URL = under(root, c.req.URL)
	out.Body = body
	if out.Host == c.req.URL.Host {
		out.Host = "" // that of the URL
	}
	// As http.Client does it.
	if u := root.User; u != nil && out.Header != nil && out.Header.Get("Authorization") == "" {
		out.Header = out.Header.Clone()
		password, _ := u.Password()
		out.Header.Set("Authorization",
			"Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	resp, err := c.walk.to.base.RoundTrip(out)
	if err != nil {
		return nil, trace, err
	}
	relocate(resp.Header, root, out.URL, c.req.URL)
	resp.Request = c.req
	return resp, trace, nil
}

// idempotent reports whether the request may be sent twice, by the rules of RFC 9110, section
// 9.2.2, and of net/http.
func idempotent(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace,
		http.MethodPut, http.MethodDelete:
		return true
	}
	_, key := req.Header["Idempotency-Key"]
	_, xKey := req.Header["X-Idempotency-Key"]
	return key || xKey
}

// discardTime is how long a retry waits for the body of the response that it gives up, to keep the
// connection.
const discardTime = 50 * time.Millisecond

// discard gives up the response to a request that is sent again. It reads a short body, so that the
// connection can be used again.
func discard(resp *http.Response) {
	if n := resp.ContentLength; n >= 0 && n <= 4<<10 {
		late := time.AfterFunc(discardTime, func() { _ = resp.Body.Close() })
		defer late.Stop()
		_, _ = io.CopyN(io.Discard, resp.Body, n+1)
	}
	_ = resp.Body.Close()
}

// StatusError is the outcome of a response whose status says that the instance, or a server behind
// it, could not serve.
type StatusError int

func (e StatusError) Error() string {
	return fmt.Sprintf("the instance answered %d %s", int(e), http.StatusText(int(e)))
}

// trace is what the base reports of one attempt.
type trace struct {
	seen        *atomic.Bool // of the Transport: the base reports
	asked, had  atomic.Bool  // for a connection; the last one asked for
	clientTrace httptrace.ClientTrace
}

func (t *trace) in(ctx context.Context) context.Context {
	t.clientTrace = httptrace.ClientTrace{
		GetConn: func(string) {
			t.asked.Store(true)
			t.had.Store(false)
			if !t.seen.Load() {
				t.seen.Store(true)
			}
		},
		GotConn: func(httptrace.GotConnInfo) { t.had.Store(true) },
	}
	return httptrace.WithClientTrace(ctx, &t.clientTrace)
}

// nothingSent reports that there was no connection to send anything on. The base itself asks for a
// second one only if nothing went out on the first, or if sending twice does no harm.
func (t *trace) nothingSent() bool { return t.asked.Load() && !t.had.Load() }

// wrong reports that a base that reports its connections did not even ask for one, so the request
// is at fault.
func (t *trace) wrong(tells bool) bool { return tells && !t.asked.Load() }
