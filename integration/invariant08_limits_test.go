package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// Invariant 8: a tenant at its limit is told so, and what it has goes on. Heartbeats keep their
// room, even in a full bucket of a cluster and in a full account, where the server refuses writes.
// Refused newcomers leave nothing behind. An instance that is registered may be registered again,
// and may drain. Seen to fail without the check of the room, with room that is not counted down
// between two checks, of keys and of bytes, without the account's limit, and with a lease for a
// refused process.
func TestTenantAtItsLimit(t *testing.T) {
	t.Parallel()
	const limit, size = 40, 2 << 20
	provision := func(t *testing.T, nc *nats.Conn, cfg tenant.Config) *nats.Conn {
		natstest.Eventually(t, natstest.Soon,
			func() error { return operator.Provision(t.Context(), nc, "acme", cfg) })
		return nc
	}
	one := func(t *testing.T) *nats.Conn { return natstest.Start(t).Connect() }
	three := func(t *testing.T) *nats.Conn { return natstest.Cluster(t)[0].Connect() }
	for name, connect := range map[string]func(t *testing.T) *nats.Conn{
		"keys, one server": func(t *testing.T) *nats.Conn {
			return provision(t, one(t),
				tenant.Config{MaxKeys: limit})
		},
		"keys, cluster": func(t *testing.T) *nats.Conn {
			return provision(t, three(t),
				tenant.Config{MaxKeys: limit})
		},
		"bytes, one server": func(t *testing.T) *nats.Conn {
			return provision(t, one(t),
				tenant.Config{MaxBytes: size})
		},
		"bytes, cluster": func(t *testing.T) *nats.Conn {
			return provision(t, three(t),
				tenant.Config{MaxBytes: size})
		},
		"account's bytes": func(t *testing.T) *nats.Conn {
			return provision(t, accounts(t, size, "acme").Connect(nats.UserInfo("acme", "p")),
				tenant.Config{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(name, "cluster") {
				natstest.Long(t)
			}
			t.Parallel()
			nc := connect(t)
			lost := make(chan error, 10)
			r := openOn(t, nc, kvregistry.Tenant("acme"),
				kvregistry.OnLeaseLost(func(err error) { lost <- err }))
			pad := 16 << 10
			if strings.HasPrefix(name, "keys") {
				pad = 0
			}
			n := fillUp(t, r, pad)
			// the used room is measured again after a while
			natstest.Eventually(t, natstest.Soon, func() error {
				time.Sleep(300 * time.Millisecond)
				if _, err := r.Register(padded(fmt.Sprint("last-", n),
					pad)); !isErr(err, kvregistry.ErrStorageFull) {
					n++
					return fmt.Errorf("one more instance gave %v", err)
				}
				return nil
			})
			refusedNewcomers(t, nc, pad)
			if err := r.SetStatus("web", kvregistry.Draining); err != nil {
				t.Errorf("an existing instance can't change: %v", err)
			}
			again := openOn(t, nc, kvregistry.Tenant("acme"),
				kvregistry.OnLeaseLost(func(err error) { lost <- err }))
			if _, err := again.Register(padded("0-0", pad)); err != nil {
				t.Errorf("an existing instance can't be taken over: %v", err)
			}
			lives(t, 3*ttl, lost)
			if got := len(keys(t, nc, "acme", "svc.")); got != n {
				t.Errorf("%d registrations of %d are left", got, n)
			}
			list, err := operator.List(t.Context(), nc)
			// ten that were being written during the measurement
			if err != nil || len(list) != 1 || list[0].MaxKeys == limit && list[0].Keys > limit+14 {
				t.Errorf("%+v, %v", list, err)
			}
		})
	}
}

// padded returns a service whose record is larger by some bytes.
func padded(id string, bytes int) kvregistry.Service {
	s := web(id)
	s.Metadata = map[string]string{"pad": strings.Repeat("x", bytes)}
	return s
}

// fillUp registers ten instances at a time until that is refused. Then it grows the instances until
// that is refused too. It returns the number of instances.
func fillUp(t *testing.T, r *kvregistry.Registry, pad int) (n int) {
	t.Helper()
	var mu sync.Mutex
	full := 0
	for round := 0; full == 0; round++ {
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				_, err := r.Register(padded(fmt.Sprintf("%d-%d", round, i), pad))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					n++
				case isErr(err, kvregistry.ErrStorageFull):
					full++
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n > 200 {
			t.Fatal("no registration is refused")
		}
	}
	for _, s := range r.RegisteredServices() {
		s.Metadata = map[string]string{"pad": strings.Repeat("x", 2*pad)}
		if err := r.Update(s); err != nil && !isErr(err, kvregistry.ErrStorageFull) {
			t.Error(err)
		}
	}
	return n
}

// refusedNewcomers starts processes that are refused and end, and checks that they leave nothing
// behind.
func refusedNewcomers(t *testing.T, nc *nats.Conn, pad int) {
	t.Helper()
	before := messages(t, nc)
	for range 20 {
		r, err := kvregistry.New(t.Context(), nc, kvregistry.Tenant("acme"), kvregistry.TTL(ttl),
			quiet(), kvregistry.WithoutReaping())
		must(t, err)
		if _, err := r.Register(padded("", pad)); !isErr(err, kvregistry.ErrStorageFull) {
			t.Fatalf("an instance beyond the limit gave %v", err)
		}
		must(t, r.Close())
	}
	if after := messages(t, nc); after > before+1 { // one for the renewal of a slot
		t.Errorf("%d keys, %d before", after, before)
	}
}

// lives waits for a time, and fails the test if a lease is lost.
func lives(t *testing.T, d time.Duration, lost <-chan error) {
	t.Helper()
	select {
	case err := <-lost:
		t.Error(err)
	case <-time.After(d):
	}
}

// Invariant 8: a limit that is set while processes are registered applies within a TTL. A limit
// below the present use is refused. A limit that is raised or removed lets more in. Seen to fail
// with a bucket whose limits are read only once.
func TestLimitsAreChanged(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	r := openOn(t, nc, kvregistry.Tenant("acme"))
	for i := range 10 {
		register(t, r, web(fmt.Sprint(i)))
	}
	change := func(cfg tenant.Config) error { return operator.Change(t.Context(), nc, "acme", cfg) }
	for _, cfg := range []tenant.Config{{MaxKeys: 5}, {MaxBytes: 1000}, {Replicas: 2},
		{MaxKeys: 1 << 62}} {
		if err := change(cfg); !isErr(err, tenant.ErrInvalidConfig) {
			t.Errorf("%+v gave %v", cfg, err)
		}
	}
	must(t, change(tenant.Config{MaxKeys: 20, MaxBytes: 1 << 20}))
	n := 0
	natstest.Eventually(t, natstest.Soon, func() error {
		_, err := r.Register(web(fmt.Sprint("more-", n/20)))
		if isErr(err, kvregistry.ErrStorageFull) {
			return nil
		}
		n++
		return errors.New("no registration is refused")
	})
	must(t, change(tenant.Config{MaxKeys: 100}))
	natstest.Eventually(t, natstest.Soon,
		func() error { _, err := r.Register(web("raised")); return err })
	must(t, change(tenant.Config{MaxKeys: operator.Unlimited, MaxBytes: operator.Unlimited}))
	list, err := operator.List(t.Context(), nc)
	if err != nil || list[0].MaxKeys != 0 || list[0].MaxBytes != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if err := operator.Change(t.Context(), nc, "other",
		tenant.Config{MaxKeys: 5}); !isErr(err, tenant.ErrBucketNotFound) {
		t.Errorf("the limits of a missing bucket gave %v", err)
	}
}

// Invariant 8: a stream limit that was set by hand applies too. A tenth of it is kept free, and a
// larger limit never leaves less room. Seen to fail with a constant that is subtracted from limits
// above it.
func TestLimitSetByHand(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	must(t, operator.Provision(t.Context(), nc, "acme", tenant.Config{MaxKeys: 1500}))
	js, err := jetstream.New(nc)
	must(t, err)
	last := int64(0)
	for _, most := range []int64{5, 100, 999, 1000, 1001, 1050, 1900, 5000} {
		stream, err := js.Stream(t.Context(), "KV_registry_acme")
		must(t, err)
		cfg := stream.CachedInfo().Config
		cfg.MaxMsgs = most
		_, err = js.UpdateStream(t.Context(), cfg)
		must(t, err)
		list, err := operator.List(t.Context(), nc)
		if err != nil || list[0].MaxKeys < last || list[0].MaxKeys > min(most-most/10, 1500) ||
			list[0].MaxKeys == 0 {
			t.Fatalf("at most %d messages: %+v, %v", most, list, err)
		}
		last = list[0].MaxKeys
	}
}

// A caller that asks for room while the server does not answer waits no longer than its context
// allows, even if others ask before it. Seen to fail with a lock that is held while the server is
// asked.
func TestRoomOfASilentServer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	must(t, operator.Provision(t.Context(), s.Connect(), "acme", tenant.Config{MaxKeys: 1000}))
	r := openOn(t, natstest.Connect(t, l.URL()), kvregistry.Tenant("acme"))
	register(t, r, web("a"))
	time.Sleep(300 * time.Millisecond) // the known room is outdated by then
	l.blackhole(up, down)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { _, _ = r.RegisterContext(ctx, web(fmt.Sprint("waits-", i))) })
	}
	time.Sleep(100 * time.Millisecond) // the others are waiting by then
	short, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	began := time.Now()
	// 20 waits in turn take 30 s
	if _, err := r.RegisterContext(short, web("short")); !isErr(err, kvregistry.ErrPending) ||
		time.Since(began) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	cancel()
	wg.Wait()
}
