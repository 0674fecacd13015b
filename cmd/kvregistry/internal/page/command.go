package page

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/cmd/kvregistry/internal/control"
	"github.com/kvregistry/go/cmd/kvregistry/internal/doctor"
	"github.com/kvregistry/go/kvregistry/metrics"
)

const about = `kvregistry page serves a live view of a tenant to browsers: its services and
instances, what changed and why, leases, exclusive names, how the registry stands, and what doctor
finds wrong. It serves /metrics for Prometheus and /healthz, too.

The page only reads, and its user needs the role observer. --allow-writes adds buttons that do what
"kvregistry drain" and "kvregistry deregister" do; the user then needs the roles of these. Nobody is
asked for a password, so listen on loopback and put a proxy before it that asks for one.

SIGINT and SIGTERM stop it.`

// Command is "kvregistry page".
func Command(std cli.Streams) *cobra.Command {
	var p serving
	c := &cobra.Command{
		Use: "page", Short: "show a tenant in a browser, live", Long: about, Args: cli.Args(),
		RunE: func(c *cobra.Command, _ []string) error { return p.run(c.Context(), std) },
	}
	fs := c.Flags()
	fs.StringVar(&p.listen, "listen", "127.0.0.1:8550", "`address` to serve the page at")
	fs.StringSliceVar(&p.hosts, "host", nil, "a further host `name` under which browsers ask for "+
		"the page, as that of a proxy; may be repeated")
	fs.BoolVar(&p.writes, "allow-writes", false, "add buttons that drain and deregister instances")
	p.Flags(fs)
	return c
}

// serving holds the options of the command.
type serving struct {
	cli.Target
	listen string
	hosts  []string
	writes bool
}

func (p *serving) run(ctx context.Context, std cli.Streams) error {
	ctx, stop := cli.UntilSignal(ctx)
	defer stop()
	session, err := p.OpenLasting(ctx, std, "page")
	if err != nil {
		return err
	}
	defer session.Close()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", p.listen)
	if err != nil {
		return cli.Usagef("--listen: %w", err)
	}
	if !onLoopback(l.Addr()) {
		_, _ = fmt.Fprintf(std.Err, "warning: %s is not loopback, and nobody is asked for a "+
			"password: each machine that reaches it reads the tenant\n", l.Addr())
	}
	_, _ = fmt.Fprintf(std.Out, "ready: tenant %s at http://%s/\n", p.Tenant, l.Addr())
	return serve(ctx, l, p.handler(session))
}

// handler is the page of a tenant, with what the program serves beside it.
func (p *serving) handler(session *cli.Session) http.Handler {
	hosts := p.hosts
	if host, _, err := net.SplitHostPort(p.listen); err == nil && host != "" {
		hosts = append(hosts, host)
	}
	if own, err := os.Hostname(); err == nil && !loopbackName(p.listen) {
		hosts = append(hosts, own)
	}
	reg := session.Registry
	cfg := Config{Tenant: p.Tenant, Hosts: hosts, Holds: ReadHolds(session.Bucket),
		Examine: func(ctx context.Context) (doctor.Report, error) {
			return doctor.Examine(ctx, session.Conn, doctor.Config{Tenant: p.Tenant})
		}}
	if p.writes {
		cfg.Drain = func(ctx context.Context, service, id string) error {
			return control.Drain(ctx, session.Bucket, service, id, nil)
		}
		cfg.Deregister = func(ctx context.Context, service, id string) error {
			ctx, cancel := p.Bounded(ctx)
			defer cancel()
			return control.Deregister(ctx, session.Bucket, service, id, false)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/", Handler(reg, cfg))
	mux.Handle("GET /metrics", guard(hosts, metrics.Handler(reg, metrics.WithInstances())))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !reg.Health().Ready() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready") // a client that is gone needs no answer
	})
	return mux
}

// loopbackName reports whether an address to listen at is on loopback.
func loopbackName(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func onLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// answerTime is what a request has until its answer is taken: a minute more than the longest answer
// needs. The stream, which has no end, extends it.
const answerTime = examineTime + time.Minute

// endTime is what open requests have to end when the program does.
const endTime = 2 * time.Second

// serve serves until ctx ends.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		WriteTimeout: answerTime, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }() // ends with Shutdown or Close
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if err := s.Shutdown(last); err != nil {
		_ = s.Close() // the streams that did not end
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
