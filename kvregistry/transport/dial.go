package transport

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/internal/fault"
)

// DialContext makes a connection to an instance of a service that has an Address; addr is the
// service's name. A port in addr is ignored, because the instance has its own, so any program that
// dials by host and port can use DialContext. It chooses among instances whose Network is network,
// or tcp if they have none. An empty network means all networks.
//
// If an instance cannot be reached, another one is tried, up to [Attempts] in all and within the
// [Budget]. Each may take 5 s, or its part of the rest of ctx's time. The look-up is told of a
// failed connection at once, and of a connection when it is closed. The error is an [*Error], or
// one of [kvregistry.Lookup.PickWith].
func (t *Transport) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, known := t.opt.hosts[addr]; !known {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			addr = host
		}
	}
	to, err := t.service(addr, way{scheme: dial, network: network})
	if err != nil {
		return nil, err
	}
	to.budget.request()
	w := walk{to: to, most: t.opt.attempts}
	var conn net.Conn
	err = w.along(ctx, func(one kvregistry.Service, done func(error)) (again bool, err error) {
		c, err := t.dialOne(ctx, &w, one)
		if err != nil {
			done(outcome(ctx, err))
			return !fault.Own(err), w.failure(err) // the same for all instances
		}
		conn = followConn(c, done)
		return false, nil
	})
	return conn, err
}

// dialOne dials an instance, and leaves time for those that may be dialled after it.
func (t *Transport) dialOne(ctx context.Context, w *walk,
	one kvregistry.Service) (net.Conn, error) {
	limit := connectTime
	if deadline, ok := ctx.Deadline(); ok {
		const least = time.Second // a shorter part is not enough to connect
		limit = min(limit, max(time.Until(deadline)/time.Duration(1+w.most-w.been), least))
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	network, address, _ := w.to.way.dials(&one)
	return t.opt.dial(ctx, network, address)
}

// told is an outcome that is told once.
type told struct {
	done func(error)
	was  atomic.Bool
}

func (t *told) tell() {
	if !t.was.Swap(true) {
		t.done(nil)
	}
}

// followConn tells done when a connection is closed. Connections of TCP and of unix sockets keep
// all of their methods, which io.Copy and gRPC use.
func followConn(c net.Conn, done func(error)) net.Conn {
	t := &told{done: done}
	switch c := c.(type) {
	case *net.TCPConn:
		return &tcpConn{TCPConn: c, told: t}
	case *net.UnixConn:
		return &unixConn{UnixConn: c, told: t}
	default:
		return &conn{Conn: c, told: t}
	}
}

type tcpConn struct {
	*net.TCPConn
	told *told
}

type unixConn struct {
	*net.UnixConn
	told *told
}

type conn struct {
	net.Conn
	told *told
}

func (c *tcpConn) Close() error  { c.told.tell(); return c.TCPConn.Close() }
func (c *unixConn) Close() error { c.told.tell(); return c.UnixConn.Close() }
func (c *conn) Close() error     { c.told.tell(); return c.Conn.Close() }

// NetConn returns the connection itself, as that of tls.Conn does.
func (c *conn) NetConn() net.Conn { return c.Conn }
