// Package scrape is the option --metrics of commands that go on until they are stopped: it serves
// what their registry knows to Prometheus.
package scrape

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/pflag"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/metrics"
)

// Option is the option --metrics.
type Option struct{ address string }

// Flags adds the option.
func (o *Option) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.address, "metrics", "", "`address` to serve metrics to Prometheus at, for "+
		"example 127.0.0.1:9550; none are served by default")
}

// Given reports whether the option was given.
func (o *Option) Given() bool { return o.address != "" }

// Serve serves the metrics of a registry and of its whole tenant, until stop is called, and says
// where. It serves nothing if the option was not given.
func (o *Option) Serve(ctx context.Context, reg *kvregistry.Registry,
	std cli.Streams) (stop func(), err error) {
	if !o.Given() {
		return func() {}, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.address)
	if err != nil {
		return nil, cli.Usagef("--metrics: %w; choose another address, such as 127.0.0.1:9550", err)
	}
	if at, ok := l.Addr().(*net.TCPAddr); !ok || !at.IP.IsLoopback() {
		_, _ = fmt.Fprintf(std.Err, "warning: other machines may reach %s, and nobody is asked "+
			"for a password: they can read the names of the services\n", l.Addr())
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler(reg, metrics.WithInstances()))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	ended := make(chan struct{})
	go func() { // ends with stop, which waits for it
		defer close(ended)
		_ = srv.Serve(l)
	}()
	_, _ = fmt.Fprintf(std.Out, "metrics: http://%s/metrics\n", l.Addr())
	return func() {
		_ = srv.Close()
		<-ended
	}, nil
}
