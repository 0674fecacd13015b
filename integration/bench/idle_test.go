package bench

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kvregistry/go/internal/natstest"
)

// observed is how many services a benchmark of several services observes.
const observed = 100

// BenchmarkIdle observes a hundred services that have no instance. It reports CPU time per second,
// server included, and what the client added: goroutines, those of the server for its connection
// included, and consumers on the server. Floor: one ordered consumer of as many filters. Peers: a
// stock watcher for each, and etcd's watch for each.
func BenchmarkIdle(b *testing.B) {
	b.Run("by=this", func(b *testing.B) {
		nothing(b, empty(b), func(server *natstest.Server) {
			reg := idle(b, server.Connect())
			for i := range observed {
				try(b, reg.ObserveContext(b.Context(), name(i)))
			}
		})
	})
	b.Run("by=floor", func(b *testing.B) {
		nothing(b, empty(b), func(server *natstest.Server) {
			var keys []string
			for i := range observed {
				keys = append(keys, "svc."+name(i)+".*")
			}
			consume, err := ordered(b, server, jetstream.DeliverLastPerSubjectPolicy,
				keys...).Consume(func(jetstream.Msg) {})
			try(b, err)
			b.Cleanup(consume.Stop)
		})
	})
	b.Run("by=stock_watcher", func(b *testing.B) {
		nothing(b, empty(b), func(server *natstest.Server) {
			js, err := jetstream.New(server.Connect())
			try(b, err)
			kv, err := js.KeyValue(b.Context(), "registry_default")
			try(b, err)
			for i := range observed {
				_, err := kv.Watch(b.Context(), "svc."+name(i)+".*") // ends with the benchmark
				try(b, err)
			}
		})
	})
	b.Run("by=etcd", func(b *testing.B) {
		server := etcd(b, false)
		nothing(b, nil, func(*natstest.Server) {
			c := server.connect()
			for i := range observed {
				<-c.Watch(b.Context(), name(i)+"/", clientv3.WithPrefix(),
					clientv3.WithCreatedNotify())
			}
		})
	})
}

func name(i int) string { return fmt.Sprint("web", i) }

// empty starts a server with a bucket that is empty.
func empty(b *testing.B) *natstest.Server {
	b.Helper()
	server := jetStream(b, false)
	bucket(b, server)
	return server
}

// nothing reports the cost of the idle client that observe makes.
func nothing(b *testing.B, server *natstest.Server, observe func(*natstest.Server)) {
	b.Helper()
	consumers := func() int {
		if server == nil {
			return 0
		}
		nc := server.Connect()
		defer nc.Close()
		return len(natstest.Consumers(b, nc, "KV_registry_default"))
	}
	goroutinesBefore, consumersBefore := runtime.NumGoroutine(), consumers()
	observe(server)
	time.Sleep(200 * time.Millisecond) // the work of the start is over
	used, took := time.Duration(0), time.Duration(0)
	for b.Loop() {
		began, before := time.Now(), cpu(b)
		time.Sleep(time.Second)
		used, took = used+cpu(b)-before, took+time.Since(began)
	}
	b.ReportMetric(float64(used)/took.Seconds(), "cpu-ns/s")
	b.ReportMetric(float64(runtime.NumGoroutine()-goroutinesBefore), "goroutines")
	if server != nil {
		b.ReportMetric(float64(consumers()-consumersBefore), "consumers")
	}
	b.ReportMetric(0, "ns/op")
}

// cpu returns the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	try(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
