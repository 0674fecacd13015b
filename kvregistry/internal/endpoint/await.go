package endpoint

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

// knockTime bounds one try to connect: an address that nobody has does not answer at all.
const knockTime = time.Second

// knockCurve is the time between two tries to connect.
var knockCurve = backoff.Curve{Least: 5 * time.Millisecond, Most: 250 * time.Millisecond}

// Await waits until something listens at an endpoint, for up to patience or until ctx ends; with a
// patience of 0 it tries once. An endpoint of UDP answers nobody, so Await does not wait for it.
func Await(ctx context.Context, network, address, rawURL string, patience time.Duration) error {
	network, address, err := target(network, address, rawURL)
	if err != nil {
		return err
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
		left := patience - time.Since(began)
		if left > 0 && backoff.Sleep(ctx, min(knockCurve.After(n), left)) == nil {
			continue
		}
		if over := ctx.Err(); over != nil {
			err = fmt.Errorf("%w: %w", over, err)
		}
		return fmt.Errorf("after %s: %w", time.Since(began).Round(time.Millisecond), err)
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

// target is where to connect to: an address, or else the host and port of a URL.
func target(network, address, rawURL string) (string, string, error) {
	switch {
	case address == "":
	case network != "":
		return network, address, nil
	case strings.HasPrefix(address, "/"):
		return "unix", address, nil
	default:
		return "tcp", address, nil
	}
	u, err := url.Parse(rawURL)
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
