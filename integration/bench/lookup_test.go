package bench

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kvregistry/go/kvregistry"
)

const instances = 10

// observer returns a registry that has read a service of ten instances.
func observer(b *testing.B) *kvregistry.Registry {
	b.Helper()
	reg := idle(b, jetStream(b, false).Connect())
	for _, s := range services() {
		_, err := reg.Register(s)
		try(b, err)
	}
	if snap, err := reg.Snapshot("web"); err != nil || snap.Len() != instances {
		b.Fatal(snap, err)
	}
	return reg
}

// both runs f in one goroutine, and in as many as there are cores.
func both(b *testing.B, by string, f func()) {
	b.Run("serial/by="+by, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f()
		}
	})
	b.Run("parallel/by="+by, func(b *testing.B) {
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

// lists is the simplest alternative: lists by name, under a mutex.
type lists struct {
	sync.Mutex
	byName map[string][]kvregistry.Service
	turn   int
}

// BenchmarkGetService has as its floor an atomic load and a copy of one Service. Peers: the same
// with a sync.Map's Load, and a mutex and a map, which takes turns as the registry does.
func BenchmarkGetService(b *testing.B) {
	reg := observer(b)
	both(b, "this", func() {
		s, _ := reg.GetService("web")
		sink(s)
	})
	list := services()
	var p atomic.Pointer[[]kvregistry.Service]
	p.Store(&list)
	both(b, "floor", func() {
		s := (*p.Load())[3]
		sink(s)
	})
	var m sync.Map
	m.Store("web", &list)
	both(b, "sync.Map", func() {
		v, _ := m.Load("web")
		s := (*v.(*[]kvregistry.Service))[3]
		sink(s)
	})
	l := lists{byName: map[string][]kvregistry.Service{"web": list}}
	both(b, "mutex", func() {
		l.Lock()
		list := l.byName["web"]
		l.turn++
		s := list[l.turn%len(list)]
		l.Unlock()
		sink(s)
	})
}

// BenchmarkSnapshot has as its floor a sync.Map's Load. Peer: a mutex and a map.
func BenchmarkSnapshot(b *testing.B) {
	reg := observer(b)
	both(b, "this", func() {
		if snap, _ := reg.Snapshot("web"); snap.Len() != instances {
			panic("no snapshot")
		}
	})
	list := services()
	var m sync.Map
	m.Store("web", &list)
	both(b, "floor", func() {
		if v, ok := m.Load("web"); !ok || len(*v.(*[]kvregistry.Service)) != instances {
			panic("no list")
		}
	})
	l := lists{byName: map[string][]kvregistry.Service{"web": list}}
	both(b, "mutex", func() {
		l.Lock()
		list := l.byName["web"]
		l.Unlock()
		if len(list) != instances {
			panic("no list")
		}
	})
}

// BenchmarkGetServices has as its floor a clone of the slice. Peer: a clone under a mutex.
func BenchmarkGetServices(b *testing.B) { getServices(b) }

// BenchmarkGetServicesFiltered is the same with a filter that lets all of them through.
func BenchmarkGetServicesFiltered(b *testing.B) { getServices(b, kvregistry.InZone("a")) }

func getServices(b *testing.B, filters ...kvregistry.Filter) {
	reg := observer(b)
	ctx := b.Context()
	both(b, "this", func() {
		list, _ := reg.GetServices(ctx, "web", filters...)
		sink(list[0])
	})
	list := services()
	both(b, "floor", func() { sink(slices.Clone(list)[0]) })
	l := lists{byName: map[string][]kvregistry.Service{"web": list}}
	both(b, "mutex", func() {
		l.Lock()
		list := slices.Clone(l.byName["web"])
		l.Unlock()
		sink(list[0])
	})
}
