package bench

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// BenchmarkRegisterCycle registers one instance and takes it back: what Register costs where this process's list of
// registrations does not grow.
func BenchmarkRegisterCycle(b *testing.B) {
	reg := fresh(b, natstest.Start(b))
	for i := 0; b.Loop(); i++ {
		unregister, err := reg.Register(numbered(i))
		if err != nil {
			b.Fatal(err)
		}
		if err := unregister(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRegisterCycleFloor sends the two messages that this takes, with the same subjects, headers and bytes.
func BenchmarkRegisterCycleFloor(b *testing.B) {
	server := natstest.Start(b)
	raw := writer(b, server)
	for i := 0; b.Loop(); i++ {
		id := numbered(i).ID
		raw.end(b, id, raw.put(b, id))
	}
}

// first is made once: what a benchmark does beside its subject has to cost nothing.
var first = services()[0]

// numbered is a service whose record has the same length whatever its number.
func numbered(i int) kvregistry.Service {
	s := first
	s.ID = fmt.Sprintf("id%08d", i)
	return s
}

// fresh is a registry on a connection of its own, which holds a lease already.
func fresh(b *testing.B, server *natstest.Server) *kvregistry.Registry {
	b.Helper()
	reg, err := kvregistry.New(b.Context(), server.Connect(), kvregistry.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = reg.Close() })
	if _, err := reg.Register(kvregistry.Service{Name: "other", Address: "10.0.0.1:80"}); err != nil {
		b.Fatal(err)
	}
	return reg
}

// raw writes what a registry writes for an instance, without the registry.
type raw struct {
	js            jetstream.JetStream
	before, after []byte // the record, around its id
}

// writer takes its bytes from a registration that a registry made on the same server.
func writer(b *testing.B, server *natstest.Server) *raw {
	b.Helper()
	s := numbered(0)
	unregister, err := fresh(b, server).Register(s)
	if err != nil {
		b.Fatal(err)
	}
	js, err := jetstream.New(server.Connect())
	if err != nil {
		b.Fatal(err)
	}
	kv, err := js.KeyValue(b.Context(), "registry_default")
	if err != nil {
		b.Fatal(err)
	}
	entry, err := kv.Get(b.Context(), "svc.web."+s.ID)
	if err != nil {
		b.Fatal(err)
	}
	if err := unregister(); err != nil {
		b.Fatal(err)
	}
	before, after, _ := bytes.Cut(entry.Value(), []byte(s.ID))
	return &raw{js: js, before: before, after: after}
}

func (r *raw) put(b *testing.B, id string) (sequence uint64) {
	msg := nats.NewMsg("$KV.registry_default.svc.web." + id)
	msg.Data = slices.Concat(r.before, []byte(id), r.after)
	return r.publish(b, msg)
}

func (r *raw) end(b *testing.B, id string, sequence uint64) {
	msg := nats.NewMsg("$KV.registry_default.svc.web." + id)
	msg.Header.Set("KV-Operation", "DEL")
	r.publish(b, msg, jetstream.WithMsgTTL(tenant.TombstoneTTL), jetstream.WithExpectLastSequencePerSubject(sequence))
}

func (r *raw) publish(b *testing.B, msg *nats.Msg, opts ...jetstream.PublishOpt) (sequence uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // without a deadline nats.go makes one
	defer cancel()
	ack, err := r.js.PublishMsg(ctx, msg, opts...)
	if err != nil {
		b.Fatal(err)
	}
	return ack.Sequence
}
