package operator

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
)

// A bucket is made anew at once where its tenant was just removed, though the server, which
// removes the folder of an account's last stream behind the answer, refuses a stream now and then
// that comes in between. Seen to fail with a creation that is tried once: 20 of 4,000.
func TestTenantIsMadeAnewAtOnce(t *testing.T) {
	t.Parallel()
	for range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			nc := natstest.Start(t).Connect()
			for range 150 {
				if err := Provision(t.Context(), nc, "acme", tenant.Config{}); err != nil {
					t.Fatal(err)
				}
				if err := Remove(t.Context(), nc, "acme"); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A bucket has more consumers than the 1,000 that a server allows where nothing is said, be it
// made by us or changed by us. Seen to fail with a bucket that does not say how many, and with a
// change that leaves it at that.
func TestMoreThanAThousandConsumers(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t).Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := Provision(t.Context(), nc, "new", tenant.Config{}); err != nil {
		t.Fatal(err)
	}
	if err := Provision(t.Context(), nc, "old", tenant.Config{}); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_registry_old")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxConsumers = -1
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := Change(t.Context(), nc, "old", tenant.Config{MaxKeys: 100}); err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"new", "old"} {
		for i := range 1010 {
			_, err := js.CreateConsumer(t.Context(), "KV_registry_"+tenant,
				jetstream.ConsumerConfig{
					Name: fmt.Sprint("c", i), AckPolicy: jetstream.AckNonePolicy,
					MemoryStorage: true,
				})
			if err != nil {
				t.Fatalf("consumer %d of %s: %v", i, tenant, err)
			}
		}
	}
}
