package bench

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// BenchmarkRegisterToVisible measures from the call of Register until the cache of another
// registry, on a connection of its own, shows the instance: an event is told after the cache shows
// it. Floors: a bare write and an ordered consumer; and, as a peer because it stores nothing, core
// NATS from publish to subscription. Other peers: a put under a lease and a watch, plain and by
// etcd's own layer; an ephemeral node and a watch, which says that the children have changed, so
// that they are read again.
func BenchmarkRegisterToVisible(b *testing.B) {
	synced(b, func(b *testing.B, fsync bool) {
		b.Run("by=this", func(b *testing.B) {
			server := jetStream(b, fsync)
			seen := make(chan time.Time, 1)
			owner, observer := fresh(b, server), fresh(b, server,
				kvregistry.OnEvent(func(kvregistry.Event) { seen <- time.Now() }))
			try(b, observer.ObserveContext(b.Context(), "web"))
			var unregister func() error
			told(b, seen, func(i int) (err error) {
				unregister, err = owner.Register(numbered(i))
				return err
			}, func(int) error {
				if snap, err := observer.Snapshot("web"); err != nil || snap.Len() != 1 {
					b.Fatal("an event tells of an instance that the cache does "+
						"not show", snap.Len(), err)
				}
				return unregister()
			})
		})
		b.Run("by=floor", func(b *testing.B) {
			server := jetStream(b, fsync)
			js, _ := bucket(b, server)
			var sequence uint64
			told(b, consumed(b, server), func(i int) (err error) {
				sequence, err = put(js, i)
				return err
			}, func(i int) error { return end(js, i, sequence) })
		})
		b.Run("by=core_NATS", func(b *testing.B) {
			server := jetStream(b, fsync)
			nc, seen := server.Connect(), make(chan time.Time, 1)
			other := server.Connect()
			_, err := other.Subscribe("web", func(*nats.Msg) { seen <- time.Now() })
			try(b, err)
			try(b, other.Flush())
			send := func(i int) error { return nc.Publish("web", value(i)) }
			told(b, seen, send, send)
		})
		b.Run("by=etcd", func(b *testing.B) {
			server := etcd(b, fsync)
			c := server.connect()
			lease, seen := lease(b, c), make(chan time.Time, 1)
			watch := server.connect().Watch(b.Context(), "svc/web/", clientv3.WithPrefix(),
				clientv3.WithCreatedNotify())
			<-watch
			go func() { // ends with the client
				for range watch {
					seen <- time.Now()
				}
			}()
			told(b, seen, func(i int) error {
				_, err := c.Put(b.Context(), "svc/web/"+id(i), string(value(i)), lease)
				return err
			}, func(i int) error {
				_, err := c.Delete(b.Context(), "svc/web/"+id(i))
				return err
			})
		})
		b.Run("by=etcd_endpoints", func(b *testing.B) {
			server := etcd(b, fsync)
			c := server.connect()
			lease, manager, seen := lease(b, c), naming(b, c), make(chan time.Time, 1)
			watch, err := naming(b, server.connect()).NewWatchChannel(b.Context())
			try(b, err)
			go func() { // ends with the client
				for range watch {
					seen <- time.Now()
				}
			}()
			told(b, seen, func(i int) error {
				s := numbered(i)
				return manager.AddEndpoint(b.Context(), "web/"+s.ID,
					endpoints.Endpoint{Addr: s.Address, Metadata: s}, lease)
			}, func(i int) error { return manager.DeleteEndpoint(b.Context(), "web/"+id(i)) })
		})
		b.Run("by=ZooKeeper", func(b *testing.B) {
			node, connect := zooKeeper(b, fsync)
			c := connect()
			told(b, children(b, connect(), node),
				func(i int) error { return ephemeral(c, node, i) },
				func(i int) error { return c.Delete(node+"/"+id(i), 0) })
		})
	})
}

// BenchmarkUpdateToEvent measures from the call of Update until it has returned and another
// registry has told of it. Floor: a bare publish and an ordered consumer.
func BenchmarkUpdateToEvent(b *testing.B) {
	b.Run("by=this", func(b *testing.B) { updateToEvent(b) })
	b.Run("by=floor", publishToConsumer)
}

// BenchmarkSignedUpdateToEvent is the same with signed registrations, which the observer checks.
func BenchmarkSignedUpdateToEvent(b *testing.B) {
	b.Run("by=this", func(b *testing.B) {
		pair, err := nkeys.CreateUser()
		try(b, err)
		public, err := pair.PublicKey()
		try(b, err)
		updateToEvent(b, kvregistry.SignWith(pair), kvregistry.TrustSigners(kvregistry.Everything,
			public))
	})
	b.Run("by=floor", publishToConsumer)
}

func updateToEvent(b *testing.B, opts ...kvregistry.Option) {
	b.Helper()
	server := jetStream(b, false)
	owner, observer := idle(b, server.Connect(), opts...), idle(b, server.Connect(), opts...)
	events, err := observer.Watch(b.Context(), "web")
	try(b, err)
	s := numbered(0)
	_, err = owner.Register(s)
	try(b, err)
	<-events
	each(b, func(i int) error {
		s.Weight = i + 1
		err := owner.Update(s)
		<-events
		return err
	})
}

func publishToConsumer(b *testing.B) {
	server := jetStream(b, false)
	js, _ := bucket(b, server)
	seen := consumed(b, server)
	each(b, func(int) error {
		_, err := put(js, 0)
		<-seen
		return err
	})
}

// consumed sends when an ordered consumer, on a connection of its own, got a message of the
// service.
func consumed(b *testing.B, server *natstest.Server) <-chan time.Time {
	b.Helper()
	seen := make(chan time.Time, 1)
	consume, err := ordered(b, server, jetstream.DeliverNewPolicy,
		"svc.web.*").Consume(func(jetstream.Msg) {
		seen <- time.Now()
	})
	try(b, err)
	b.Cleanup(consume.Stop)
	return seen
}

// ordered returns an ordered consumer of keys of the bucket, on a connection of its own.
func ordered(b *testing.B, server *natstest.Server, policy jetstream.DeliverPolicy,
	keys ...string) jetstream.Consumer {
	b.Helper()
	js, err := jetstream.New(server.Connect())
	try(b, err)
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: policy}
	for _, key := range keys {
		cfg.FilterSubjects = append(cfg.FilterSubjects, "$KV.registry_default."+key)
	}
	c, err := js.OrderedConsumer(b.Context(), "KV_registry_default", cfg)
	try(b, err)
	return c
}
