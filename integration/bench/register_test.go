package bench

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.etcd.io/etcd/client/v3/naming/endpoints"

	"github.com/kvregistry/go/tenant"
)

// BenchmarkRegister registers one new instance after the other. Floor: the same bytes created as a
// key of the same bucket. Peers: a put under an existing lease, plain and by etcd's own layer for
// discovery; an ephemeral node.
func BenchmarkRegister(b *testing.B) {
	synced(b, func(b *testing.B, fsync bool) {
		b.Run("by=this", func(b *testing.B) {
			reg := fresh(b, jetStream(b, fsync))
			each(b, func(i int) error {
				_, err := reg.Register(numbered(i))
				return err
			})
		})
		b.Run("by=floor", func(b *testing.B) {
			_, kv := bucket(b, jetStream(b, fsync))
			each(b, func(i int) error {
				_, err := kv.Create(b.Context(), "svc.web."+id(i), value(i))
				return err
			})
		})
		b.Run("by=etcd", func(b *testing.B) {
			c := etcd(b, fsync).connect()
			lease := lease(b, c)
			each(b, func(i int) error {
				_, err := c.Put(b.Context(), "svc/web/"+id(i), string(value(i)), lease)
				return err
			})
		})
		b.Run("by=etcd_endpoints", func(b *testing.B) {
			c := etcd(b, fsync).connect()
			lease, manager := lease(b, c), naming(b, c)
			each(b, func(i int) error {
				s := numbered(i)
				return manager.AddEndpoint(b.Context(), "web/"+s.ID,
					endpoints.Endpoint{Addr: s.Address, Metadata: s}, lease)
			})
		})
		b.Run("by=ZooKeeper", func(b *testing.B) {
			node, connect := zooKeeper(b, fsync)
			c := connect()
			each(b, func(i int) error { return ephemeral(c, node, i) })
		})
	})
}

// BenchmarkRegisterCycle registers one instance and takes it back: the cost of Register while this
// process's list of registrations does not grow. Floor: the two messages that this takes, with the
// same subjects, headers and as many bytes.
func BenchmarkRegisterCycle(b *testing.B) {
	b.Run("by=this", func(b *testing.B) {
		reg := fresh(b, jetStream(b, false))
		each(b, func(i int) error {
			unregister, err := reg.Register(numbered(i))
			if err != nil {
				return err
			}
			return unregister()
		})
	})
	b.Run("by=floor", func(b *testing.B) {
		js, _ := bucket(b, jetStream(b, false))
		each(b, func(i int) error {
			sequence, err := put(js, i)
			if err != nil {
				return err
			}
			return end(js, i, sequence)
		})
	})
}

// put sends the message that registers a numbered service.
func put(js jetstream.JetStream, i int) (sequence uint64, err error) {
	msg := nats.NewMsg(subject(i))
	msg.Data = value(i)
	return publish(js, msg)
}

// end sends the message that takes it back.
func end(js jetstream.JetStream, i int, sequence uint64) error {
	msg := nats.NewMsg(subject(i))
	msg.Header.Set("KV-Operation", "DEL")
	_, err := publish(js, msg, jetstream.WithMsgTTL(tenant.TombstoneTTL),
		jetstream.WithExpectLastSequencePerSubject(sequence))
	return err
}

func subject(i int) string { return "$KV.registry_default.svc.web." + id(i) }

func publish(js jetstream.JetStream, msg *nats.Msg,
	opts ...jetstream.PublishOpt) (sequence uint64, err error) {
	// Without a deadline nats.go makes one.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ack, err := js.PublishMsg(ctx, msg, opts...)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}
