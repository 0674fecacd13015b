package bench

import (
	"encoding/json"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// crowd starts a server with a service of ten thousand instances, whose owner lives. The tenant has
// been swept, as any tenant that is older than a TTL: before that, each newcomer looks for dead
// leases itself.
func crowd(b *testing.B) *natstest.Server {
	b.Helper()
	server := jetStream(b, false)
	reg := fresh(b, server, kvregistry.TTL(6*time.Second))
	list := make([]kvregistry.Service, many)
	for i := range list {
		list[i] = numbered(i)
	}
	_, err := reg.RegisterAll(b.Context(), list...)
	try(b, err)
	_, kv := bucket(b, server)
	natstest.Eventually(b, natstest.Soon, func() error {
		_, err := kv.Get(b.Context(), tenant.SlotKey(0))
		return err
	})
	return server
}

// BenchmarkFirstLookup measures the first look-up of a service of ten thousand instances. Floor: an
// ordered consumer that gets the same keys, and decodes them. Peers: the stock watcher, which does
// so too, and etcd's range get of as many, decoded.
func BenchmarkFirstLookup(b *testing.B) {
	server := crowd(b)
	b.Run("by=this", func(b *testing.B) {
		rounds(b, func() (lookup, stop func()) {
			reg := idle(b, server.Connect())
			return func() { look(b, reg) }, func() { try(b, reg.Close()) }
		})
	})
	b.Run("by=floor", func(b *testing.B) {
		for b.Loop() {
			read(b, server)
		}
	})
	b.Run("by=stock_watcher", func(b *testing.B) {
		js, err := jetstream.New(server.Connect())
		try(b, err)
		kv, err := js.KeyValue(b.Context(), "registry_default")
		try(b, err)
		for b.Loop() {
			w, err := kv.Watch(b.Context(), "svc.web.*")
			try(b, err)
			list := make([]kvregistry.Service, 0, many)
			for e := range w.Updates() {
				if e == nil { // that was all
					break
				}
				list = append(list, decoded(b, e.Value()))
			}
			try(b, w.Stop())
			complete(b, list)
		}
	})
	b.Run("by=etcd", func(b *testing.B) {
		c := etcd(b, false).connect()
		try(b, together(writers, func(i int) error {
			_, err := c.Put(b.Context(), "svc/web/"+id(i), string(value(i)))
			return err
		}))
		for b.Loop() {
			got, err := c.Get(b.Context(), "svc/web/", clientv3.WithPrefix())
			try(b, err)
			list := make([]kvregistry.Service, 0, many)
			for _, kv := range got.Kvs {
				list = append(list, decoded(b, kv.Value))
			}
			complete(b, list)
		}
	})
}

// BenchmarkMemory reports the bytes of heap that an observer of ten thousand instances holds for
// each. Floor: the decoded instances, with their strings, slices and maps.
func BenchmarkMemory(b *testing.B) {
	server := crowd(b)
	b.Run("by=this", func(b *testing.B) {
		nc := server.Connect()
		held(b, func() (release func()) {
			reg, err := kvregistry.New(b.Context(), nc)
			try(b, err)
			look(b, reg)
			return func() { try(b, reg.Close()) }
		})
	})
	b.Run("by=floor", func(b *testing.B) {
		held(b, func() (release func()) {
			list := make([]kvregistry.Service, many)
			for i := range list {
				list[i] = decoded(b, value(i))
			}
			return func() { complete(b, list) }
		})
	})
}

// held reports how much the heap shrinks by release, for each of many. The server runs in this
// process, and its own memory is in both measurements.
func held(b *testing.B, take func() (release func())) {
	b.Helper()
	bytes, n := 0.0, 0
	for b.Loop() {
		release := take()
		with := heap()
		release()
		release = nil
		bytes += float64(with) - float64(heap())
		n++
	}
	b.ReportMetric(bytes/float64(n)/many, "B/instance")
	b.ReportMetric(0, "ns/op")
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what had a finalizer, or was in a pool
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// look looks the service up.
func look(b *testing.B, reg *kvregistry.Registry) {
	b.Helper()
	snap, err := reg.SnapshotContext(b.Context(), "web")
	try(b, err)
	if snap.Len() != many {
		b.Fatal("not all instances:", snap.Len())
	}
}

// read reads the service's instances with an ordered consumer.
func read(b *testing.B, server *natstest.Server) []kvregistry.Service {
	b.Helper()
	list, done := make([]kvregistry.Service, 0, many), make(chan struct{})
	consume, err := ordered(b, server, jetstream.DeliverLastPerSubjectPolicy,
		"svc.web.*").Consume(func(msg jetstream.Msg) {
		if list = append(list, decoded(b, msg.Data())); len(list) == many {
			close(done)
		}
	})
	try(b, err)
	<-done
	consume.Stop()
	return list
}

func decoded(b *testing.B, data []byte) kvregistry.Service {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		b.Error(err)
	}
	return r.Instance
}

func complete(b *testing.B, list []kvregistry.Service) {
	b.Helper()
	if len(list) != many {
		b.Fatal("not all instances:", len(list))
	}
}
