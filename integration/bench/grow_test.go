package bench

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// BenchmarkGrow measures an observer of ten thousand instances and of ten times as many, in one
// service and in many. It reports the time until the observer has them all and its heap for each.
// For one change it reports the time from the call of Update to the event, and the allocations of
// this process. -short leaves the larger number out.
func BenchmarkGrow(b *testing.B) {
	for _, n := range []int{many, 10 * many} {
		if testing.Short() && n > many {
			continue
		}
		for _, services := range []int{1, n / 10} {
			b.Run(fmt.Sprintf("n=%d/services=%d", n, services), func(b *testing.B) {
				grow(b, n, services)
			})
		}
	}
}

func grow(b *testing.B, n, services int) {
	server := jetStream(b, false)
	owner := idle(b, server.Connect())
	list := make([]kvregistry.Service, n)
	for i := range list {
		list[i] = numbered(i)
		list[i].Name = fmt.Sprint("web", i%services)
	}
	_, err := owner.RegisterAll(b.Context(), list...)
	try(b, err)
	for b.Loop() {
		before, began := heap(), time.Now()
		seen := make(chan time.Time, 1)
		observer := idle(b, server.Connect())
		try(b, observer.ObserveContext(b.Context(), kvregistry.Everything))
		_, err := observer.SnapshotContext(b.Context(), "web0") // waits for all of them
		try(b, err)
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "first-ms")
		b.ReportMetric((float64(heap())-float64(before))/float64(n), "B/instance")
		follow(b, observer, n, seen)
		change(b, owner, list[:1000], seen)
		try(b, observer.Close())
	}
	b.ReportMetric(0, "ns/op")
}

// follow sends the time of each update, and returns when all instances were read.
func follow(b *testing.B, observer *kvregistry.Registry, n int, seen chan<- time.Time) {
	events, err := observer.Watch(b.Context(), kvregistry.Everything)
	try(b, err)
	all := make(chan struct{})
	go func() { // ends with the observer
		there := 0
		for e := range events {
			switch e.Kind {
			case kvregistry.Updated:
				seen <- time.Now()
			case kvregistry.Registered:
				if there++; there == n {
					close(all)
				}
			}
		}
	}()
	<-all
}

// change makes one change after the other.
func change(b *testing.B, owner *kvregistry.Registry, list []kvregistry.Service,
	seen <-chan time.Time) {
	var before, after runtime.MemStats
	took := time.Duration(0)
	for i, s := range list {
		if i == 1 { // the first one comes behind all that were there
			runtime.ReadMemStats(&before)
		}
		s.Version += "+" + fmt.Sprint(time.Now().UnixNano())
		began := time.Now()
		try(b, owner.UpdateContext(b.Context(), s))
		if at := <-seen; i > 0 {
			took += at.Sub(began)
		}
	}
	runtime.ReadMemStats(&after)
	n := float64(len(list) - 1)
	b.ReportMetric(float64(took.Microseconds())/n, "change-us")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/n, "change-B")
}
