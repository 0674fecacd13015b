package bench

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// BenchmarkGetServiceUnderChanges measures single calls of GetService while a service of ten
// instances does not change, and while it changes ten thousand times a second, with server, sender
// and observer on the same cores. Floor: an atomic load and a copy of one Service, during the same
// changes. Both include two readings of the clock.
func BenchmarkGetServiceUnderChanges(b *testing.B) {
	for _, rate := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("changes=%d", rate), func(b *testing.B) {
			b.Run("by=this", func(b *testing.B) {
				reg := changing(b, rate)
				calls(b, func() {
					s, _ := reg.GetService("web")
					sink(s)
				})
			})
			b.Run("by=floor", func(b *testing.B) {
				changing(b, rate)
				list := services()
				var p atomic.Pointer[[]kvregistry.Service]
				p.Store(&list)
				calls(b, func() {
					s := (*p.Load())[3]
					sink(s)
				})
			})
		})
	}
}

func calls(b *testing.B, f func()) {
	b.Helper()
	h := latencies()
	for b.Loop() {
		began := time.Now()
		f()
		_ = h.RecordValue(int64(time.Since(began)))
	}
	report(b, h)
}

// changing returns a registry that observes a service which changes so many times a second until
// the benchmark ends. The benchmark fails if the observer falls behind.
func changing(b *testing.B, rate int) *kvregistry.Registry {
	b.Helper()
	server := jetStream(b, false)
	reg := fresh(b, server)
	for i := range instances {
		_, err := reg.Register(numbered(i))
		try(b, err)
	}
	_, kv := bucket(b, server)
	var values [][]byte
	for i := range instances { // from here on the changes come from elsewhere, under the same lease
		entry, err := kv.Get(b.Context(), "svc.web."+id(i))
		try(b, err)
		values = append(values, entry.Value())
	}
	first, err := reg.SnapshotContext(b.Context(), "web")
	try(b, err)
	if rate == 0 {
		return reg
	}
	const tick = 5 * time.Millisecond
	nc, stop, sent := server.Connect(), make(chan struct{}), make(chan int)
	go func() { // ends with the benchmark
		began, n := time.Now(), 0
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				sent <- n
				return
			case now := <-ticker.C:
				for ; n < int(now.Sub(began).Seconds()*float64(rate)); n++ {
					// The check below sees whether it arrived.
					_ = nc.Publish(subject(n%instances), values[n%instances])
				}
			}
		}
	}()
	b.Cleanup(func() {
		close(stop)
		want := first.Revision() + uint64(<-sent)
		for deadline := time.Now().Add(natstest.Soon); ; time.Sleep(time.Millisecond) {
			snap, err := reg.Snapshot("web")
			if err == nil && snap.Revision() >= want {
				return
			}
			if time.Now().After(deadline) {
				b.Errorf("the observer is %d changes behind: %v", want-snap.Revision(), err)
				return
			}
		}
	})
	return reg
}
