package doctor

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

var bucketFaults = []fault{
	{"bucket", Error, "there is no bucket " + bucket, func(t *testing.T) (*nats.Conn, Config) {
		return login(start(t)), Config{}
	}},
	{"bucket-settings", Error, "- history: 5\n+ history: 1\n- discard: DiscardOld\n+ ",
		func(t *testing.T) (*nats.Conn, Config) {
			nc := login(start(t))
			provision(t, nc, tenant.Config{})
			edit(t, nc, func(cfg *jetstream.StreamConfig) {
				cfg.MaxMsgsPerSubject, cfg.Discard = 5, jetstream.DiscardOld
			})
			return nc, Config{}
		}},
	{"bucket-settings", Error, "- storage: Memory", func(t *testing.T) (*nats.Conn, Config) {
		nc := login(start(t))
		js, err := jetstream.New(nc)
		must(t, err)
		_, err = js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: bucket,
			Storage: jetstream.MemoryStorage})
		must(t, err)
		return nc, Config{}
	}},
	{"bucket-room", Error, "the bucket has 9 of 10 keys; 9 keys have a value, and 0 have ended",
		func(t *testing.T) (*nats.Conn, Config) {
			nc := login(start(t))
			provision(t, nc, tenant.Config{MaxKeys: 10})
			for n := range 9 {
				put(t, nc, fmt.Sprintf("svc.web.%d", n), "x", 0)
			}
			return nc, Config{}
		}},
	{"bucket-room", Warning, "of 20000 bytes", func(t *testing.T) (*nats.Conn, Config) {
		nc := login(start(t))
		provision(t, nc, tenant.Config{MaxBytes: 20_000})
		put(t, nc, "svc.web.1", string(make([]byte, 16_000)), 0)
		return nc, Config{}
	}},
	{"consumers", Error, "3 of 3 consumers", func(t *testing.T) (*nats.Conn, Config) {
		nc := login(start(t))
		provision(t, nc, tenant.Config{})
		edit(t, nc, func(cfg *jetstream.StreamConfig) { cfg.MaxConsumers = 3 })
		js, err := jetstream.New(nc)
		must(t, err)
		for n := range 3 {
			_, err := js.CreateConsumer(t.Context(), stream,
				jetstream.ConsumerConfig{Durable: fmt.Sprint("d", n)})
			must(t, err)
		}
		return nc, Config{}
	}},
	{"advice", Warning, "duplicate window of 2m0s", func(t *testing.T) (*nats.Conn, Config) {
		nc := login(start(t))
		provision(t, nc, tenant.Config{})
		edit(t, nc, func(cfg *jetstream.StreamConfig) { cfg.Duplicates = 2 * time.Minute })
		return nc, Config{}
	}},
	{"replication", Warning, "one replica, in cluster test",
		func(t *testing.T) (*nats.Conn, Config) {
			nc := login(natstest.Cluster(t, accounts(t, "enabled"))[0])
			provision(t, nc, tenant.Config{Replicas: 1})
			return nc, Config{}
		}},
	{"replication", Warning, "the bucket has 2 replicas",
		func(t *testing.T) (*nats.Conn, Config) {
			nc := login(natstest.Cluster(t, accounts(t, "enabled"))[0])
			provision(t, nc, tenant.Config{Replicas: 1})
			edit(t, nc, func(cfg *jetstream.StreamConfig) { cfg.Replicas = 2 })
			return nc, Config{}
		}},
	{"replicas", Error, "the replica on server n", func(t *testing.T) (*nats.Conn, Config) {
		list := natstest.Cluster(t, accounts(t, "enabled"))
		provision(t, login(list[0]), tenant.Config{})
		natstest.AwaitReplicas(t, login(list[0]), stream, 3)
		list[2].Down()
		return login(list[0]), Config{}
	}},
}

var leafFaults = []fault{
	{"mirror", Warning, "the mirror is of a bucket of", func(t *testing.T) (*nats.Conn, Config) {
		hub, leaf := site(t)
		mirrored(t, leaf.Connect())
		must(t, operator.Remove(t.Context(), hub.Connect(), name))
		provision(t, hub.Connect(), tenant.Config{})
		return leaf.Connect(), Config{}
	}},
	{"mirror", Warning, "the hub's bucket can't be asked", func(t *testing.T) (*nats.Conn, Config) {
		hub, leaf := site(t)
		mirrored(t, leaf.Connect())
		hub.Down()
		return leaf.Connect(), Config{}
	}},
	{"domain", Error, `in this domain, "leaf", and another in domain "hub"`,
		func(t *testing.T) (*nats.Conn, Config) {
			_, leaf := site(t)
			provision(t, leaf.Connect(), tenant.Config{Replicas: 1})
			return leaf.Connect(), Config{}
		}},
	{"domain", Warning, "in domain hub, and this domain has no mirror",
		func(t *testing.T) (*nats.Conn, Config) {
			_, leaf := site(t)
			return leaf.Connect(), Config{}
		}},
}
