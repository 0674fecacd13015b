package bench

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/kvregistry"
)

// many is the number of instances in the benchmarks of many.
const many = 10_000

// writers is the number of goroutines that put keys into etcd. A tenth of them takes longer, and
// etcd refuses some of ten times as many.
const writers = 1000

// BenchmarkRegisterMany has one process register ten thousand instances, from as many goroutines,
// and measures the time of all of them. Floor: as many messages of the same bytes, published
// asynchronously as nats.go does it if it only has to know that all were stored. Peers: as many
// puts under one lease, from as many goroutines as suit etcd best.
func BenchmarkRegisterMany(b *testing.B) {
	b.Run("by=this", func(b *testing.B) {
		rounds(b, func() (register, stop func()) {
			server := jetStream(b, false)
			reg := fresh(b, server)
			// On a busy machine the default is too short for the last ones.
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			return func() {
					try(b, together(many, func(i int) error {
						_, err := reg.RegisterContext(ctx, numbered(i))
						return err
					}))
				}, func() { // and the next one does not run beside this one's heartbeats and view
					cancel()
					try(b, reg.Close())
					server.Down()
				}
		})
	})
	// The registry's own call for many, with one deadline for all.
	b.Run("by=RegisterAll", func(b *testing.B) {
		rounds(b, func() (register, stop func()) {
			server := jetStream(b, false)
			reg := fresh(b, server)
			var list []kvregistry.Service
			for i := range many {
				list = append(list, numbered(i))
			}
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			return func() {
					_, err := reg.RegisterAll(ctx, list...)
					try(b, err)
				}, func() {
					cancel()
					try(b, reg.Close())
					server.Down()
				}
		})
	})
	b.Run("by=floor", func(b *testing.B) {
		rounds(b, func() (register, stop func()) {
			server := jetStream(b, false)
			bucket(b, server)
			js, err := jetstream.New(server.Connect(), jetstream.WithPublishAsyncMaxPending(4000))
			try(b, err)
			return func() {
				for i := range many {
					_, err := js.PublishMsgAsync(&nats.Msg{Subject: subject(i), Data: value(i)})
					try(b, err)
				}
				<-js.PublishAsyncComplete()
			}, server.Down
		})
	})
	// In batches of which the server takes all or nothing, each key only if it is not there.
	b.Run("by=atomic", func(b *testing.B) {
		rounds(b, func() (register, stop func()) {
			server := jetStream(b, false)
			bucket(b, server)
			nc := server.Connect()
			js, err := jetstream.New(nc)
			try(b, err)
			stream, err := js.Stream(b.Context(), "KV_registry_default")
			try(b, err)
			cfg := stream.CachedInfo().Config
			cfg.AllowAtomicPublish = true
			_, err = js.UpdateStream(b.Context(), cfg)
			try(b, err)
			return func() {
				for from := 0; from < many; from += atomicBatch {
					try(b, publishBatch(nc, from, from+atomicBatch))
				}
			}, server.Down
		})
	})
	b.Run("by=etcd", func(b *testing.B) { puts(b, false) })
	b.Run("by=etcd_fsync", func(b *testing.B) { puts(b, true) })
}

// atomicBatch is how many messages a server takes in a batch.
const atomicBatch = 1000

// publishBatch publishes instances as one batch, and waits until it is stored.
func publishBatch(nc *nats.Conn, from, to int) error {
	id := rand.Text()
	for i := from; i < to; i++ {
		msg := &nats.Msg{Subject: subject(i), Data: value(i), Header: nats.Header{
			"Nats-Batch-Id": {id}, "Nats-Batch-Sequence": {strconv.Itoa(i - from + 1)},
			"Nats-Expected-Last-Subject-Sequence": {"0"},
		}}
		if i < to-1 {
			if err := nc.PublishMsg(msg); err != nil {
				return err
			}
			continue
		}
		msg.Header.Set("Nats-Batch-Commit", "1")
		answer, err := nc.RequestMsg(msg, 10*time.Second)
		if err != nil {
			return err
		}
		var ack struct {
			Count int             `json:"count"`
			Error json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(answer.Data, &ack); err != nil || ack.Count != to-from {
			return fmt.Errorf("the batch was refused: %s, %w", answer.Data, err)
		}
	}
	return nil
}

func puts(b *testing.B, fsync bool) {
	rounds(b, func() (register, stop func()) {
		server := etcd(b, fsync)
		c := server.connect()
		lease := lease(b, c)
		return func() {
			try(b, together(writers, func(i int) error {
				_, err := c.Put(b.Context(), "svc/web/"+id(i), string(value(i)), lease)
				return err
			}))
		}, server.stop
	})
}

// rounds measures the first function that begin returns, and neither begin nor the other.
func rounds(b *testing.B, begin func() (measured, stop func())) {
	b.Helper()
	for b.Loop() {
		b.StopTimer()
		measured, stop := begin()
		b.StartTimer()
		measured()
		b.StopTimer()
		stop()
		b.StartTimer()
	}
}

// together runs f for each of many, in so many goroutines, and returns when all have ended, with
// one of their errors.
func together(goroutines int, f func(i int) error) error {
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := g; i < many && errs[g] == nil; i += goroutines {
				errs[g] = f(i)
			}
		})
	}
	wg.Wait()
	return cmp.Or(errs...)
}
