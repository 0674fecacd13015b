package bridge_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/bridge"
)

// BenchmarkHeard measures the time until an observer of the tenant is told of an instance that a
// plain process has just registered: a message, a write and its delivery.
func BenchmarkHeard(b *testing.B) {
	s := natstest.Start(b)
	br, _ := join(b, s, bridge.MaxInstances(1_000_000), bridge.Logger(discard))
	leads(b, br)
	here, nc := registry(b, s, kvregistry.Logger(discard))
	events, err := here.Watch(b.Context(), "web")
	if err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		i++
		if err := nc.Publish("registry.register.web",
			fmt.Appendf(nil, `{"name":"web","add":"10.0.0.1:%d"}`, i)); err != nil {
			b.Fatal(err)
		}
		<-events
	}
}

// BenchmarkTold measures the time until a plain process hears of an instance that was registered in
// the tenant, the registration included.
func BenchmarkTold(b *testing.B) {
	s := natstest.Start(b)
	br, _ := join(b, s, bridge.Interval(time.Hour), bridge.Logger(discard))
	leads(b, br)
	here, nc := registry(b, s, kvregistry.Logger(discard))
	ends, err := nc.SubscribeSync("registry.unregister.web")
	if err != nil {
		b.Fatal(err)
	}
	sub, err := nc.SubscribeSync("registry.register.web")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		end := register(b, here, kvregistry.Service{ID: "1", Name: "web", Address: "10.0.0.1:80"})
		if _, err := sub.NextMsg(5 * time.Second); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := end(); err != nil {
			b.Fatal(err)
		}
		if _, err := ends.NextMsg(5 * time.Second); err != nil {
			b.Fatal(err)
		}
		for { // skip what was said again
			if n, _, _ := sub.Pending(); n == 0 {
				break
			}
			_, _ = sub.NextMsg(time.Second)
		}
		b.StartTimer()
	}
}

// BenchmarkTenThousand measures the time until ten thousand instances of plain processes are
// registered, and until as many of the tenant are said once.
func BenchmarkTenThousand(b *testing.B) {
	const many = 10_000
	for b.Loop() {
		s := natstest.Start(b)
		br, _ := join(b, s, bridge.Logger(discard), bridge.TTL(kvregistry.DefaultTTL),
			bridge.Interval(bridge.DefaultInterval))
		leads(b, br)
		nc := s.Connect()
		began := time.Now()
		for i := range many {
			if err := nc.Publish("registry.register.web",
				fmt.Appendf(nil, `{"name":"web","add":"10.0.0.1:%d"}`, i)); err != nil {
				b.Fatal(err)
			}
		}
		natstest.Eventually(b, time.Minute, func() error {
			if h := br.Health(); h.Held != many {
				return fmt.Errorf("%d of %d are registered", h.Held, many)
			}
			return nil
		})
		b.ReportMetric(time.Since(began).Seconds(), "s/heard")
		here, _ := registry(b, s, kvregistry.Logger(discard), kvregistry.TTL(kvregistry.DefaultTTL))
		list := make([]kvregistry.Service, many)
		for i := range list {
			list[i] = kvregistry.Service{Name: "new", Address: fmt.Sprintf("10.0.0.2:1%d", i)}
		}
		began = time.Now()
		if _, err := here.RegisterAll(b.Context(), list...); err != nil {
			b.Fatal(err)
		}
		natstest.Eventually(b, time.Minute, func() error {
			if h := br.Health(); h.Told != many {
				return fmt.Errorf("%d of %d are told", h.Told, many)
			}
			return nil
		})
		b.ReportMetric(time.Since(began).Seconds(), "s/told")
		_ = br.Close()
	}
}
