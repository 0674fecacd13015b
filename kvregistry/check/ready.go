package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/kvregistry/go/kvregistry"
)

// quoted is the number of bytes of a failed answer's body that are read, for the error.
const quoted = 200

// HTTP makes a check that sends a GET to a URL, each time on a new connection, and passes if the
// answer's status is 2xx. It follows no redirect, and reads at most a few bytes of the body. For
// another method, headers or certificates, write the check with [Of].
func HTTP(address string, opts ...Option) Check {
	u, err := url.Parse(address)
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil,
			MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	c := Of(func(ctx context.Context) error {
		return get(ctx, client, address)
	}, append([]Option{Named("http")}, opts...)...)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		c.err = fmt.Errorf("%w: HTTP: write the URL as http://host:port/path",
			kvregistry.ErrInvalidOption)
	}
	return c
}

func get(ctx context.Context, client *http.Client, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("cannot make a request for the URL")
	}
	resp, err := client.Do(req)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) { // it quotes the URL, which may hold a password
			err = e.Err
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 == 2 {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, quoted))
	return fmt.Errorf("status %d: %q", resp.StatusCode, strings.TrimSpace(string(body)))
}

// TCP makes a check that connects to a host:port, and passes if the connection is accepted.
func TCP(address string, opts ...Option) Check {
	c := Of(func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	}, append([]Option{Named("tcp")}, opts...)...)
	if _, _, err := net.SplitHostPort(address); err != nil {
		c.err = fmt.Errorf("%w: TCP: %w; write it as host:port", kvregistry.ErrInvalidOption, err)
	}
	return c
}
