package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/kvregistry/go/internal/backoff"
)

// Listening has Register look first whether something listens where the instance is said to be, and wait for it for up to patience; with 0 it
// looks once. A service that is registered before it listens has callers whose calls fail.
//
// It opens a connection to the instance's Address, or, where there is none, to the host and port of its URL, and closes it again; of an Address of
// UDP, which answers nobody, it takes Register's word. Where nothing answers, nothing is registered, and the error wraps [ErrNotListening]. The wait is a
// part of the time that Register has, which is 5 s where it has no context.
func Listening(patience time.Duration) Option {
	return func(o *options) error {
		if patience < 0 {
			return fmt.Errorf("%w: Listening(%s); use 0 to look once, or how long to wait", ErrInvalidOption, patience)
		}
		o.listening, o.patience = true, patience
		return nil
	}
}

// knockTime bounds one try to connect to an instance: an address that nobody has does not answer at all.
const knockTime = time.Second

// knockCurve is the time between two tries to connect.
var knockCurve = backoff.Curve{Least: 5 * time.Millisecond, Most: 250 * time.Millisecond}

// awaitListening waits until something listens at the instance's address, where that was asked for.
func (r *Registry) awaitListening(ctx context.Context, s Service) error {
	if !r.opt.listening || r.usable(ctx) != nil || s.Address == "" && s.URL == "" {
		return nil // the rest is for who registers to say
	}
	network, address, err := s.endpoint()
	if err != nil {
		return fmt.Errorf("%w: service %q: %w", ErrNotListening, s.Name, err)
	}
	if strings.HasPrefix(network, "udp") || network == "unixgram" {
		return nil
	}
	began := time.Now()
	for n := 0; ; n++ {
		err := knock(ctx, network, address)
		if err == nil {
			return nil
		}
		left := r.opt.patience - time.Since(began)
		if left > 0 && backoff.Sleep(ctx, min(knockCurve.After(n), left)) == nil {
			continue
		}
		if over := ctx.Err(); over != nil {
			err = fmt.Errorf("%w: %w", over, err)
		}
		return fmt.Errorf("%w: service %q, after %s: %w; listen before you register, or have Listening wait for longer",
			ErrNotListening, s.Name, time.Since(began).Round(time.Millisecond), err)
	}
}

// knock connects, and hangs up.
func knock(ctx context.Context, network, address string) error {
	d := net.Dialer{Timeout: knockTime}
	c, err := d.DialContext(ctx, network, address)
	if err == nil {
		_ = c.Close()
	}
	return err
}

// endpoint is where to connect to an instance.
func (s *Service) endpoint() (network, address string, err error) {
	if s.Address != "" {
		if s.Network == "" && strings.HasPrefix(s.Address, "/") {
			return "unix", s.Address, nil
		}
		if s.Network == "" {
			return "tcp", s.Address, nil
		}
		return s.Network, s.Address, nil
	}
	u, err := url.Parse(s.URL)
	if err != nil { // it quotes pieces of the URL
		return "", "", errors.New("URL does not parse")
	}
	port := u.Port()
	switch {
	case u.Scheme == "unix":
		return "unix", u.Path, nil
	case port != "":
	case u.Scheme == "http" || u.Scheme == "ws":
		port = "80"
	case u.Scheme == "https" || u.Scheme == "wss":
		port = "443"
	default:
		return "", "", errors.New("its URL has no port to look at; add it, or set Address")
	}
	return "tcp", net.JoinHostPort(u.Hostname(), port), nil
}
