package kvregistry

import (
	"errors"
	"fmt"
	"net"
	neturl "net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Dial connects to NATS with settings that suit a registry, and is otherwise [nats.Connect]: it
// retries the first connect, reconnects for ever, and notices within 10 s that the server is gone
// without a word. Dial returns the connection even if the server is not there yet, and a registry
// on it waits.
//
// A ping that waits behind other messages for as long counts as unanswered. If the link may be busy
// for more than 9 s at a time, pass a longer [nats.PingInterval]. opts come after Dial's own and
// override them. The connection is the caller's, to be closed after the registries on it.
//
// The error wraps [ErrInvalidOption] if the URL does not parse, and quotes nothing of it.
func Dial(url string, opts ...nats.Option) (*nats.Conn, error) {
	opts = append(slices.Clip(opts), remembering)
	nc, err := nats.Connect(url, append([]nats.Option{
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 500*time.Millisecond),
		nats.PingInterval(3 * time.Second), // the third that goes unanswered ends the connection
		nats.MaxPingsOutstanding(2),
	}, opts...)...)
	var parse *neturl.Error
	switch {
	case errors.As(err, &parse): // it quotes the URL, and why it fails quotes a piece of a password
		return nil, fmt.Errorf("kvregistry: dial: %w: the URL does not parse; write it as "+
			"nats://user:password@host:4222, with a password's other characters than letters and "+
			"digits as %%XX", ErrInvalidOption)
	case err != nil:
		return nil, fmt.Errorf("kvregistry: dial: %w", err)
	}
	return nc, nil
}

// dialer remembers why it could not connect, which nats.go does not while it tries.
type dialer struct {
	net.Dialer
	last atomic.Pointer[error]
}

func (d *dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := d.Dialer.Dial(network, address)
	d.last.Store(&err)
	return conn, err
}

// LastError is the error of the last try, nil if that connected. See [tenant.Bucket.LastError].
func (d *dialer) LastError() error {
	if err := d.last.Load(); err != nil {
		return *err
	}
	return nil
}

// remembering has the connection dial with a dialer, unless the caller gave one.
func remembering(o *nats.Options) error {
	if o.CustomDialer == nil && o.Dialer == nil && o.AllowMultipathTCP == nil {
		o.CustomDialer = &dialer{Dialer: net.Dialer{Timeout: o.Timeout}}
	}
	return nil
}
