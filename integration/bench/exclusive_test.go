package bench

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// BenchmarkExclusive holds a name that no other process wants, and releases it, again and again.
// Floor: the two messages that this takes, with as many bytes. Peer: etcd's mutex, on an existing
// session.
func BenchmarkExclusive(b *testing.B) {
	synced(b, func(b *testing.B, fsync bool) {
		b.Run("by=this", func(b *testing.B) {
			reg := fresh(b, jetStream(b, fsync))
			each(b, func(int) error {
				h, err := reg.Exclusive(b.Context(), "job")
				if err != nil {
					return err
				}
				return h.Release(b.Context())
			})
		})
		b.Run("by=floor", func(b *testing.B) {
			js, _ := bucket(b, jetStream(b, fsync))
			value := value(0)[:140] // the length of a ticket
			each(b, func(i int) error {
				msg := nats.NewMsg("$KV.registry_default.lock.job." + id(i))
				msg.Data = value
				sequence, err := publish(js, msg, jetstream.WithExpectLastSequencePerSubject(0))
				if err != nil {
					return err
				}
				msg = nats.NewMsg(msg.Subject)
				msg.Header.Set("KV-Operation", "PURGE")
				_, err = publish(js, msg, jetstream.WithMsgTTL(10*time.Second),
					jetstream.WithExpectLastSequencePerSubject(sequence))
				return err
			})
		})
		b.Run("by=etcd", func(b *testing.B) {
			session, err := concurrency.NewSession(etcd(b, fsync).connect())
			try(b, err)
			m := concurrency.NewMutex(session, "job")
			each(b, func(int) error {
				if err := m.Lock(b.Context()); err != nil {
					return err
				}
				return m.Unlock(b.Context())
			})
		})
	})
}
