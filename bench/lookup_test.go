package bench

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

const instances = 10

// observer is a registry that has read a service of ten instances.
func observer(b *testing.B) *kvregistry.Registry {
	b.Helper()
	reg, err := kvregistry.New(b.Context(), natstest.Start(b).Connect())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = reg.Close() })
	for _, s := range services() {
		if _, err := reg.Register(s); err != nil {
			b.Fatal(err)
		}
	}
	if snap, err := reg.Snapshot("web"); err != nil || snap.Len() != instances {
		b.Fatal(snap, err)
	}
	return reg
}

func services() (list []kvregistry.Service) {
	for i := range instances {
		list = append(list, kvregistry.Service{
			ID: fmt.Sprint(i), Name: "web", Version: "1.0.0", Address: fmt.Sprintf("10.0.0.%d:80", i), Zone: "a", Host: "h",
			Tags: []string{"x"}, Metadata: map[string]string{"k": "v"},
		})
	}
	return list
}

// both runs f in one goroutine, and in as many as there are cores.
func both(b *testing.B, f func()) {
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				f()
			}
		})
	})
}

// sink keeps what is measured from being optimized away.
func sink(s kvregistry.Service) {
	if s.Name == "" {
		panic("no service")
	}
}

func BenchmarkGetService(b *testing.B) {
	reg := observer(b)
	both(b, func() {
		s, _ := reg.GetService("web")
		sink(s)
	})
}

func BenchmarkGetServiceFloor(b *testing.B) { // an atomic load, and a copy of one Service
	list := services()
	var p atomic.Pointer[[]kvregistry.Service]
	p.Store(&list)
	both(b, func() {
		s := (*p.Load())[3]
		sink(s)
	})
}

func BenchmarkGetServiceMutex(b *testing.B) { // what one would write first: a mutex and a map
	var mu sync.Mutex
	byName, turn := map[string][]kvregistry.Service{"web": services()}, 0
	both(b, func() {
		mu.Lock()
		list := byName["web"]
		turn++
		s := list[turn%len(list)]
		mu.Unlock()
		sink(s)
	})
}

func BenchmarkSnapshot(b *testing.B) {
	reg := observer(b)
	both(b, func() {
		if snap, _ := reg.Snapshot("web"); snap.Len() != instances {
			panic("no snapshot")
		}
	})
}

func BenchmarkSnapshotFloor(b *testing.B) { // sync.Map Load
	var m sync.Map
	list := services()
	m.Store("web", &list)
	both(b, func() {
		if v, ok := m.Load("web"); !ok || len(*v.(*[]kvregistry.Service)) != instances {
			panic("no list")
		}
	})
}

func BenchmarkGetServices(b *testing.B) {
	reg := observer(b)
	ctx := b.Context()
	both(b, func() {
		list, _ := reg.GetServices(ctx, "web")
		sink(list[0])
	})
}

func BenchmarkGetServicesFloor(b *testing.B) { // a clone of the slice
	list := services()
	both(b, func() { sink(slices.Clone(list)[0]) })
}

func BenchmarkGetServicesFiltered(b *testing.B) {
	reg := observer(b)
	ctx := b.Context()
	zone := kvregistry.InZone("a")
	both(b, func() {
		list, _ := reg.GetServices(ctx, "web", zone)
		sink(list[0])
	})
}
