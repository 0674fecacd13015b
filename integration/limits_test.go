package integration

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// A tenant that has as many keys as it may is told so, and what it has goes on: heartbeats keep their room, also in a cluster, which refuses them in a
// bucket that is full. Seen to fail without
// the look at the room, and with room that is not counted down between two looks.
func TestTenantAtItsLimit(t *testing.T) {
	t.Parallel()
	for name, servers := range map[string]func() []*natstest.Server{
		"one server": func() []*natstest.Server { return []*natstest.Server{natstest.Start(t)} },
		"cluster":    func() []*natstest.Server { return natstest.Cluster(t) },
	} {
		t.Run(name, func(t *testing.T) {
			nc := servers()[0].Connect()
			const limit = 40
			natstest.Eventually(t, 10*time.Second, func() error {
				return tenant.Provision(t.Context(), nc, "acme", tenant.Config{MaxKeys: limit})
			})
			lost := make(chan error, 10)
			r := openOn(t, nc, kvregistry.Tenant("acme"), kvregistry.OnLeaseLost(func(err error) { lost <- err }))
			n, err := registerAll(r)
			if !isErr(err, kvregistry.ErrStorageFull) || n < limit/2 {
				t.Fatalf("%d registrations, then %v", n, err)
			}
			for range 50 { // which leave nothing behind that takes the room
				if _, err := r.Register(web("")); !isErr(err, kvregistry.ErrStorageFull) {
					t.Fatal(err)
				}
			}
			if err := r.SetStatus("web", kvregistry.Warning); err != nil {
				t.Errorf("what is there can't change: %v", err)
			}
			until := time.Now().Add(3 * ttl)
			natstest.Eventually(t, 5*ttl, func() error {
				if time.Now().Before(until) {
					return errors.New("not yet")
				}
				return nil
			})
			select {
			case err := <-lost:
				t.Error(err)
			default:
			}
			if got := len(keys(t, nc, "acme", "svc.")); got != n {
				t.Errorf("%d registrations of %d are left", got, n)
			}
			checkKeys(t, nc, limit)
		})
	}
}

// registerAll registers until that is refused.
func registerAll(r *kvregistry.Registry) (n int, err error) {
	for ; n < 1000; n++ {
		if _, err = r.Register(web(fmt.Sprint(n))); err != nil {
			return n, err
		}
	}
	return n, nil
}

// checkKeys allows a lease and the sweep key beyond the limit.
func checkKeys(t *testing.T, nc *nats.Conn, limit int64) {
	t.Helper()
	list, err := tenant.List(t.Context(), nc)
	if err != nil || len(list) != 1 || list[0].MaxKeys != limit || list[0].Keys > uint64(limit)+2 {
		t.Errorf("%+v, %v", list, err)
	}
}
