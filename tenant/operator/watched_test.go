package operator

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/internal/stream"
)

// A bucket of a version without metadata for monitors is taken by this one, which sets the metadata
// only if an admin changes or provisions the bucket. A second Provision changes nothing. Seen to
// fail if Ensure asks for the metadata, and if Provision leaves the bucket without.
func TestBucketOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t).Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), stream.Config("registry_acme")); err != nil {
		t.Fatal(err)
	}
	b, err := tenant.New(nc, "acme", tenant.Config{})
	if err == nil {
		err = b.Ensure(t.Context())
	}
	if err != nil {
		t.Error("a bucket without metadata:", err)
	}
	watched := func() bool {
		i, err := Inspect(t.Context(), nc, "acme", "")
		if err != nil {
			t.Fatal(err)
		}
		return stream.Watched(i.Stream.Config)
	}
	if watched() {
		t.Error("Ensure has changed the bucket")
	}
	for range 2 {
		if err := Provision(t.Context(), nc, "acme", tenant.Config{}); err != nil || !watched() {
			t.Errorf("watched: %t, %v", watched(), err)
		}
	}
	if err := b.Ensure(t.Context()); err != nil {
		t.Error("a bucket with metadata:", err)
	}
}
