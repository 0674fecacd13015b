package kvregistry

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/kvregistry/go/kvregistry/internal/endpoint"
)

// FromListener makes a service at the address of a listener, for [Registry.Register]. The caller
// may fill in its other fields.
//
// A listener on all of the host's addresses is reached at [OutboundIP], which in a container is the
// container's own. A loopback address, and a unix socket, whose path is made absolute, stay what
// they are, for callers on this host. A listener on all IPv6 addresses is taken for one on those of
// IPv4 too; for "tcp6", which is not, give the address by hand. If the address can't be known, as
// on a host that has none but loopback, Register refuses the service and says why.
func FromListener(l net.Listener, name string) Service {
	s := Service{Name: name}
	if l != nil {
		s.Network, s.Address = endpoint.OfListener(l)
	}
	return s
}

// OutboundIP returns the address that this host's packets to other networks come from, IPv4 if
// there is one. It sends nothing: it asks the host's routes. On a host without a default route it
// is the first address of the interfaces that is not for the host or its link only. The error wraps
// [ErrNoAddress].
func OutboundIP() (netip.Addr, error) { return endpoint.OutboundIP() }

// FreePort returns a TCP port that nobody listens on at any of this host's addresses. Another
// program may take the port before this one listens on it: to listen on port 0 and register
// [FromListener] has no such gap. The error wraps [ErrNoAddress].
func FreePort() (int, error) { return endpoint.FreePort() }

// FreePortIn is [FreePort] from first to last, both included. It returns a random one of those that
// are free, so that programs that ask at once seldom get the same. The error wraps
// [ErrInvalidOption] if that is no range of ports, and [ErrNoAddress] if none is free.
func FreePortIn(first, last int) (int, error) { return endpoint.FreePortIn(first, last) }

// awaitListening waits until something listens at the instance's address, if [Listening] asked for
// that.
func (o *observer) awaitListening(ctx context.Context, s Service) error {
	if !o.opt.listening || o.usable(ctx) != nil || s.Address == "" && s.URL == "" {
		return nil // what registers it says what is wrong
	}
	if err := endpoint.Await(ctx, s.Network, s.Address, s.URL, o.opt.patience); err != nil {
		return fmt.Errorf("%w: service %q: %w; listen before you register, or have Listening "+
			"wait for longer", ErrNotListening, s.Name, err)
	}
	return nil
}
