package doctor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

const (
	othersTime = 300 * time.Millisecond // for the answers of servers that a leaf node joins
	dialTime   = time.Second            // bounds one connection to an address
	pings      = 3                      // of which the shortest round trip counts
)

var (
	errNoBucket = errors.New("the tenant has no bucket")
	errNoSystem = errors.New("no connection of the system account was given")
	// errNotSystem is what a connection of another account comes to.
	errNotSystem = errors.New("no server answers to the system account; " +
		"is the connection of that account?")
	errNoDial = errors.New("it was not asked for")
)

// answer is a fact, or why it is not known.
type answer[T any] struct {
	value T
	err   error
}

// facts are what several checks need.
type facts struct {
	cfg Config
	nc  *nats.Conn

	user   answer[operator.Identity]
	near   answer[operator.Inspection] // of the connection's own JetStream
	leader answer[operator.Inspection] // of the bucket: near's, or the hub's of a mirror
	scan   answer[*scan]
	before answer[[]*jetstream.ConsumerInfo] // the bucket's consumers before the scan
	after  answer[[]*jetstream.ConsumerInfo] // and after it
	trip   answer[time.Duration]
	others map[string]answer[operator.Inspection] // of the other domains, by name
	system answer[system]
	silent answer[[]string] // addresses that do not answer
}

// gather asks for the facts.
func gather(ctx context.Context, b *tenant.Bucket, cfg Config) *facts {
	f := &facts{cfg: cfg, nc: b.Conn()}
	f.user.value, f.user.err = operator.Identify(ctx, f.nc, othersTime)
	f.near.value, f.near.err = operator.Inspect(ctx, f.nc, cfg.Tenant, "")
	f.leader = f.near
	hub := f.near.value.Hub
	if hub != "" {
		f.leader.value, f.leader.err = operator.Inspect(ctx, f.nc, cfg.Tenant, hub)
	}
	if f.leader.err == nil && f.leader.value.Stream == nil {
		f.leader.err = errNoBucket
	}
	f.askDomains(ctx, hub)
	f.trip.value, f.trip.err = pinged(f.nc)
	var wg sync.WaitGroup
	wg.Go(func() { f.system.value, f.system.err = askSystem(ctx, cfg.System, f.user.value) })
	wg.Go(func() {
		if f.leader.err != nil {
			f.scan.err, f.before.err, f.after.err = f.leader.err, f.leader.err, f.leader.err
			return
		}
		// Ensure changes nothing about a bucket that is there, and finds the hub of a mirror.
		_ = b.Ensure(ctx)
		f.before.value, f.before.err = operator.Consumers(ctx, f.nc, cfg.Tenant, hub)
		f.scan.value, f.scan.err = read(ctx, b, f.leader.value.Offset, cfg.Watch)
		f.after = f.before
		if f.before.err == nil {
			f.after.value, f.after.err = operator.Consumers(ctx, f.nc, cfg.Tenant, hub)
		}
	})
	wg.Wait()
	switch {
	case !cfg.Dial:
		f.silent.err = errNoDial
	case f.scan.err != nil:
		f.silent.err = f.scan.err
	default:
		f.silent.value = dialAll(ctx, f.scan.value.living())
	}
	return f
}

// askDomains inspects the domains that servers beside a leaf node's connection have.
func (f *facts) askDomains(ctx context.Context, hub string) {
	f.others = map[string]answer[operator.Inspection]{}
	own := ""
	if f.near.err == nil {
		own = f.near.value.Account.Domain
	}
	for _, domain := range f.user.value.Domains {
		if domain == own || domain == hub {
			continue
		}
		var one answer[operator.Inspection]
		one.value, one.err = operator.Inspect(ctx, f.nc, f.cfg.Tenant, domain)
		f.others[domain] = one
	}
}

// pinged is the shortest of a few round trips to the server.
func pinged(nc *nats.Conn) (least time.Duration, err error) {
	for range pings {
		took, err := nc.RTT()
		if err != nil {
			return 0, fmt.Errorf("no pong: %w", err)
		}
		if least == 0 || took < least {
			least = took
		}
	}
	return least, nil
}

// stream is the name of the stream under the tenant's bucket, for commands.
func (f *facts) stream() string { return f.leader.value.Stream.Config.Name }

// ttl is the shortest and the longest TTL of the living leases, or the default.
func (f *facts) ttl() (least, most time.Duration) {
	if f.scan.err == nil {
		for _, one := range f.scan.value.leases {
			if one.alive && one.ttl > 0 && (least == 0 || one.ttl < least) {
				least = one.ttl
			}
			if one.alive {
				most = max(most, one.ttl)
			}
		}
	}
	if least == 0 {
		return lease.DefaultTTL, lease.DefaultTTL
	}
	return least, most
}

// ours is a command of this program about the tenant.
func (f *facts) ours(command, rest string) string {
	return "kvregistry " + command + " " + f.cfg.Tenant + rest
}

// finding makes the finding of a check. The table gives it its name.
func finding(s Severity, seen, why, mend string) []Finding {
	return []Finding{{Severity: s, Seen: seen, Why: why, Mend: mend}}
}
