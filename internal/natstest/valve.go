package natstest

import (
	"net"
	"sync"
)

// Valve dials connections on which nothing is received while the Valve is locked.
type Valve struct{ sync.RWMutex }

// Dial makes a Valve a [nats.CustomDialer].
func (v *Valve) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return valveConn{c, v}, err
}

type valveConn struct {
	net.Conn
	valve *Valve
}

func (c valveConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.valve.RLock()
	defer c.valve.RUnlock()
	return n, err
}
