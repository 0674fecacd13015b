package operator

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
)

// A bucket can be recreated at once after its tenant was removed. The server removes the folder of
// an account's last stream after the answer, and may refuse a stream until then. Seen to fail with
// a creation that is tried once: 20 of 4,000.
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

// A bucket that this package creates or changes allows more than the server's default of 1,000
// consumers. Seen to fail with a bucket that does not set the number, and with a change that leaves
// it.
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
