package transport

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/internal/fault"
)

// DialContext makes a connection to an instance of a service that has an Address; addr is the service's name. It may have a port, which is
// not looked at, for the instance has its own: so it serves as the DialContext of whatever dials by host and port.
// It goes to instances whose network is the given one, tcp where they say none, and to those of all networks where network is empty.
//
// An instance that can't be reached is passed over for another, for [Attempts] in all and within the [Budget]. Each may take 5 s, or its part of what
// is left of ctx. The look-up is told of those that failed at once, and of a connection when it is closed. The error is an [*Error],
// or one of [kvregistry.Lookup.PickWith].
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
			return !fault.Own(err), w.failure(err) // which is the same for all instances
		}
		conn = followConn(c, done)
		return false, nil
	})
	return conn, err
}

// dialOne dials an instance, and leaves time for those that may be dialled after it.
func (t *Transport) dialOne(ctx context.Context, w *walk, one kvregistry.Service) (net.Conn, error) {
	limit := connectTime
	if deadline, ok := ctx.Deadline(); ok {
		const least = time.Second // a part too short to connect in is of no use
		limit = min(limit, max(time.Until(deadline)/time.Duration(1+w.most-w.been), least))
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	network, _ := w.to.way.dials(&one)
	return t.opt.dial(ctx, network, one.Address)
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

// followConn has the end of a connection told to done. Connections of TCP and of unix sockets keep all that they can do, as io.Copy and gRPC ask for it.
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

// NetConn is the connection itself, as tls.Conn has it.
func (c *conn) NetConn() net.Conn { return c.Conn }
