package bench

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

func BenchmarkRegister(b *testing.B) {
	reg, err := kvregistry.New(b.Context(), natstest.Start(b).Connect())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = reg.Close() })
	s := services()[0]
	if _, err := reg.Register(s); err != nil { // takes the lease
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		s.ID = fmt.Sprint("id", i)
		if _, err := reg.Register(s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRegisterFloor(b *testing.B) { // a bare publish of as many bytes to a new key of the same bucket
	nc := natstest.Start(b).Connect()
	js, value := bare(b, nc)
	for i := 0; b.Loop(); i++ {
		if _, err := js.Publish(b.Context(), fmt.Sprint("$KV.registry_default.svc.web.id", i), value); err != nil {
			b.Fatal(err)
		}
	}
}

// bare makes the bucket and says what a registration's bytes are.
func bare(b *testing.B, nc *nats.Conn) (jetstream.JetStream, []byte) {
	b.Helper()
	reg, err := kvregistry.New(b.Context(), nc)
	if err != nil {
		b.Fatal(err)
	}
	if err := reg.Close(); err != nil {
		b.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	value, err := json.Marshal(map[string]any{"format": 1, "lease": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "owner": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "instance": services()[0]})
	if err != nil {
		b.Fatal(err)
	}
	return js, value
}

// From the call of Update to the event in another registry, on a connection of its own.
func BenchmarkUpdateToEvent(b *testing.B) { updateToEvent(b, natstest.Start(b)) }

func updateToEvent(b *testing.B, server *natstest.Server, opts ...kvregistry.Option) {
	b.Helper()
	owner, err := kvregistry.New(b.Context(), server.Connect(), opts...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = owner.Close() })
	other, err := kvregistry.New(b.Context(), server.Connect(), opts...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = other.Close() })
	events, err := other.Watch(b.Context(), "web")
	if err != nil {
		b.Fatal(err)
	}
	s := services()[0]
	if _, err := owner.Register(s); err != nil {
		b.Fatal(err)
	}
	<-events
	for b.Loop() {
		s.Weight++
		if err := owner.Update(s); err != nil {
			b.Fatal(err)
		}
		<-events
	}
}

func BenchmarkUpdateToEventFloor(b *testing.B) { // a bare publish, and an ordered consumer
	server := natstest.Start(b)
	js, value := bare(b, server.Connect())
	other, err := jetstream.New(server.Connect())
	if err != nil {
		b.Fatal(err)
	}
	c, err := other.OrderedConsumer(b.Context(), "KV_registry_default", jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"$KV.registry_default.svc.web.*"}, DeliverPolicy: jetstream.DeliverNewPolicy,
	})
	if err != nil {
		b.Fatal(err)
	}
	events := make(chan struct{}, 1)
	consume, err := c.Consume(func(jetstream.Msg) { events <- struct{}{} })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(consume.Stop)
	for b.Loop() {
		if _, err := js.Publish(b.Context(), "$KV.registry_default.svc.web.0", value); err != nil {
			b.Fatal(err)
		}
		<-events
	}
}

// The same with signed registrations, which the observer checks.
func BenchmarkSignedUpdateToEvent(b *testing.B) {
	server := natstest.Start(b)
	pair, err := nkeys.CreateUser()
	if err != nil {
		b.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		b.Fatal(err)
	}
	signed := []kvregistry.Option{kvregistry.SignWith(pair), kvregistry.TrustSigners(kvregistry.Everything, public)}
	updateToEvent(b, server, signed...)
}
