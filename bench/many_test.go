package bench

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// many is how many registrations one process makes at once.
const many = 10_000

// BenchmarkRegisterMany has one process register ten thousand instances, from as many goroutines, and reports the time of all of them.
func BenchmarkRegisterMany(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		server := natstest.Start(b)
		reg := fresh(b, server)
		b.StartTimer()
		errs := make([]error, many)
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() { _, errs[i] = reg.RegisterContext(b.Context(), numbered(i)) })
		}
		wg.Wait()
		b.StopTimer() // and the next one does not run beside this one's heartbeats and view
		if err := errors.Join(append(errs, reg.Close())...); err != nil {
			b.Fatal(err)
		}
		server.Down()
		b.StartTimer()
	}
}

// BenchmarkRegisterAll has one process register as many by one call.
func BenchmarkRegisterAll(b *testing.B) {
	list := make([]kvregistry.Service, many)
	for i := range list {
		list[i] = numbered(i)
	}
	for b.Loop() {
		b.StopTimer()
		server := natstest.Start(b)
		reg := fresh(b, server)
		b.StartTimer()
		_, err := reg.RegisterAll(b.Context(), list...)
		b.StopTimer()
		if err := errors.Join(err, reg.Close()); err != nil {
			b.Fatal(err)
		}
		server.Down()
		b.StartTimer()
	}
}

// BenchmarkRegisterManyFloor publishes as many messages of the same bytes asynchronously, as nats.go does it when asked for no
// more than to know that all were stored.
func BenchmarkRegisterManyFloor(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		server := natstest.Start(b)
		nc := server.Connect()
		_, value := bare(b, nc)
		js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4000))
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for i := range many {
			if _, err := js.PublishMsgAsync(&nats.Msg{Subject: fmt.Sprint("$KV.registry_default.svc.web.id", i), Data: value}); err != nil {
				b.Fatal(err)
			}
		}
		<-js.PublishAsyncComplete()
		b.StopTimer()
		nc.Close()
		server.Down()
		b.StartTimer()
	}
}
