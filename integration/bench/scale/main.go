// Scale puts a large tenant's load on one server, or on a cluster of three. It prints what that
// costs and how late clients hear of changes; docs/scale.md says what follows from it. With -expire
// it has many leases run out at once.
//
// The servers are processes of their own. The load is this process: thousands of simulated
// processes, each with a lease, its heartbeats and one registration in the wire format, but no
// registry; and observers that are registries. Reapers are registries in processes of their own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/integration/bench/internal/natsproc"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// settings are the flags.
type settings struct {
	leases, services, observers, observed, atOnce, reapers, connections int

	ttl, length time.Duration
	churn       float64
	cluster     bool
	profiles    string
	expire      []int
}

func parse() (s settings) {
	flag.IntVar(&s.leases, "leases", 10000, "simulated processes, each with a lease and a "+
		"registration")
	flag.IntVar(&s.services, "services", 1000, "services that they register")
	flag.IntVar(&s.observers, "observers", 200, "registries that observe")
	flag.IntVar(&s.observed, "observed", 10, "services that each of them observes")
	flag.IntVar(&s.atOnce, "at-once", 4, "observers that begin at the same time")
	flag.IntVar(&s.reapers, "reapers", 3, "registries that reap")
	flag.IntVar(&s.connections, "connections", 8, "connections that the processes share, and as "+
		"many that the observers share")
	flag.DurationVar(&s.ttl, "ttl", 15*time.Second, "time to live of every lease")
	flag.DurationVar(&s.length, "for", 10*time.Minute, "how long it is measured")
	flag.Float64Var(&s.churn, "churn", 0.01, "share of the processes that crash in each TTL, and "+
		"that come")
	flag.BoolVar(&s.cluster, "cluster", false, "three servers with three replicas in place of one")
	flag.StringVar(&s.profiles, "profile", "", "write processor profiles into this `folder`")
	flag.Func("expire", "instead, have so many leases run out at once: `numbers` with commas "+
		"between them", func(text string) (err error) {
		s.expire, err = numbers(text)
		return err
	})
	flag.Parse()
	return s
}

const most = 100_000 // of anything

func (s settings) check() error {
	for _, n := range []int{s.leases, s.services, s.atOnce, s.reapers, s.connections} {
		if n < 1 || n > most {
			return fmt.Errorf("scale: %d is not 1 to %d", n, most)
		}
	}
	switch {
	case s.observers < 0 || s.observers > most:
		return fmt.Errorf("scale: %d observers", s.observers)
	case s.observed < 1 || s.observed > s.services:
		return fmt.Errorf("scale: of %d services %d can't be observed", s.services, s.observed)
	case s.length <= 0 || s.length > time.Hour:
		return fmt.Errorf("scale: %s is not up to an hour", s.length)
	case s.churn < 0 || s.churn > 1:
		return fmt.Errorf("scale: a churn of %g is not 0 to 1", s.churn)
	}
	return lease.CheckTTL(s.ttl)
}

func main() {
	natsproc.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s := parse()
	reaperMain(s.ttl)
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	if err := s.check(); err != nil {
		return err
	}
	b, err := newBench(ctx, s)
	if err != nil {
		return err
	}
	defer b.close()
	defer b.warned.print(os.Stdout)
	if s.expire != nil {
		return expireAll(ctx, b)
	}
	return carry(ctx, b)
}

// bench has the servers, the connections to them, and the reapers, which both measurements need.
type bench struct {
	settings
	servers    *natsproc.Servers
	conns      []*nats.Conn
	registries []*kvregistry.Registry
	reapers    []*reaper // the first two hold the slots
	warned     tally
	profiled   func()
}

func newBench(ctx context.Context, s settings) (*bench, error) {
	b := &bench{settings: s, warned: tally{times: map[string]int{}}, profiled: func() {}}
	if err := b.begin(ctx); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) begin(ctx context.Context) (err error) {
	n := 1
	if b.cluster {
		n = 3
	}
	if b.profiles != "" {
		if b.profiled, err = natsproc.Profile(filepath.Join(b.profiles,
			"client.pprof")); err != nil {
			return err
		}
	}
	if b.servers, err = natsproc.Start(n, b.profiles); err != nil {
		return err
	}
	if err := b.provision(ctx, n); err != nil {
		return err
	}
	for range b.settings.reapers {
		r, err := b.startReaper()
		if err != nil {
			return err
		}
		b.reapers = append(b.reapers, r)
	}
	// After which a new reaper may purge.
	return sleep(ctx, max(b.ttl, 3*time.Second)+500*time.Millisecond)
}

// provision makes the bucket as soon as the servers can. A new cluster needs some seconds.
func (b *bench) provision(ctx context.Context, replicas int) error {
	nc, err := b.connect()
	if err != nil {
		return err
	}
	for began := time.Now(); ; {
		err := operator.Provision(ctx, nc, kvregistry.DefaultTenant,
			tenant.Config{Replicas: replicas})
		if err == nil || time.Since(began) > time.Minute {
			return err
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

func (b *bench) connect() (*nats.Conn, error) {
	nc, err := nats.Connect(b.servers.URL(), nats.MaxReconnects(-1))
	if err == nil {
		b.conns = append(b.conns, nc)
	}
	return nc, err
}

// connectSeveral makes the connections that many share.
func (b *bench) connectSeveral() ([]*nats.Conn, error) {
	list := make([]*nats.Conn, b.connections)
	for i := range list {
		var err error
		if list[i], err = b.connect(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// open makes a registry, which reaps unless an option says otherwise.
func (b *bench) open(ctx context.Context, nc *nats.Conn, opts ...kvregistry.Option) error {
	reg, err := kvregistry.New(ctx, nc, append(opts, kvregistry.TTL(b.ttl),
		kvregistry.Logger(slog.New(&b.warned)))...)
	if err == nil {
		b.registries = append(b.registries, reg)
	}
	return err
}

func (b *bench) close() {
	_ = inParallel(writers, len(b.registries), func(i int) error { return b.registries[i].Close() })
	for _, nc := range b.conns {
		nc.Close()
	}
	for _, r := range b.reapers {
		if err := r.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "a reaper:", err)
		}
	}
	if b.servers != nil {
		b.servers.Stop()
	}
	b.profiled()
}

// numbers reads the flag of leases that run out.
func numbers(text string) (list []int, err error) {
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("%q is not 1 to %d leases", part, most)
		}
		list = append(list, n)
	}
	return list, nil
}

var errLate = errors.New("scale: it did not happen in time")

// await waits until a condition holds. what names the condition.
func await(ctx context.Context, within time.Duration, what string, so func() bool) error {
	for began := time.Now(); !so(); {
		if time.Since(began) > within {
			return fmt.Errorf("%w: %s within %s", errLate, what, within)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// sleep waits for a time, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
