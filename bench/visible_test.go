package bench

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// BenchmarkRegisterToEvent measures from the call of Register until it has returned and another registry, on a
// connection of its own, has told of the instance. The cache shows an instance before its event comes.
func BenchmarkRegisterToEvent(b *testing.B) {
	server := natstest.Start(b)
	owner, observer := fresh(b, server), fresh(b, server)
	if err := observer.ObserveContext(b.Context(), "web"); err != nil {
		b.Fatal(err)
	}
	events, err := observer.Watch(b.Context(), "web")
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		unregister, err := owner.Register(numbered(i))
		if err != nil {
			b.Fatal(err)
		}
		expect(b, events, kvregistry.Registered)
		b.StopTimer()
		if err := unregister(); err != nil {
			b.Fatal(err)
		}
		expect(b, events, kvregistry.Unregistered)
		b.StartTimer()
	}
}

func expect(b *testing.B, events <-chan kvregistry.Event, want kvregistry.Kind) {
	if e := <-events; e.Kind != want {
		b.Fatalf("event %s, want %s", e.Kind, want)
	}
}

// BenchmarkRegisterToEventFloor sends the same message, and waits for its answer and for an ordered consumer that
// gets it.
func BenchmarkRegisterToEventFloor(b *testing.B) {
	server := natstest.Start(b)
	raw := writer(b, server)
	seen := ordered(b, server, "$KV.registry_default.svc.web.*")
	for i := 0; b.Loop(); i++ {
		id := numbered(i).ID
		sequence := raw.put(b, id)
		<-seen
		b.StopTimer()
		raw.end(b, id, sequence)
		<-seen
		b.StartTimer()
	}
}

// ordered is told of each new message of the subjects by an ordered consumer on a connection of its own.
func ordered(b *testing.B, server *natstest.Server, subject string) <-chan struct{} {
	b.Helper()
	js, err := jetstream.New(server.Connect())
	if err != nil {
		b.Fatal(err)
	}
	c, err := js.OrderedConsumer(b.Context(), "KV_registry_default", jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject}, DeliverPolicy: jetstream.DeliverNewPolicy,
	})
	if err != nil {
		b.Fatal(err)
	}
	seen := make(chan struct{}, 1)
	consume, err := c.Consume(func(jetstream.Msg) { seen <- struct{}{} })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(consume.Stop)
	return seen
}
