package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/kvregistry/go/integration/bench/internal/natsproc"
	"github.com/kvregistry/go/integration/bench/internal/processes"
	"github.com/kvregistry/go/kvregistry"
)

// TestMain lets this program be the server in a process of its own.
func TestMain(m *testing.M) {
	natsproc.Main()
	m.Run()
}

// BenchmarkIdleProcesses reports what idle processes cost a server, including those that reap. The
// program integration/bench/quiet measures more of them, and for longer. -short leaves most out.
func BenchmarkIdleProcesses(b *testing.B) {
	numbers, ttl := []int{100, 500}, kvregistry.DefaultTTL
	if testing.Short() {
		numbers, ttl = []int{20}, 2*time.Second
	}
	for _, n := range numbers {
		b.Run(fmt.Sprintf("processes=%d", n), func(b *testing.B) {
			b.Run("by=this", func(b *testing.B) { idleProcesses(b, n, ttl) })
		})
	}
}

func idleProcesses(b *testing.B, n int, ttl time.Duration) {
	fleet, err := processes.Start(b.Context(), n, ttl)
	try(b, err)
	defer fleet.Stop()
	var c processes.Cost
	for b.Loop() {
		c, err = fleet.Measure(b.Context(), 14*ttl/15) // two sweeps of the default TTL
		try(b, err)
	}
	b.ReportMetric(c.In, "in/s")
	b.ReportMetric(c.Out, "out/s")
	b.ReportMetric(c.Processor*float64(time.Second), "server-cpu-ns/s")
	b.ReportMetric(float64(c.Added)/float64(n), "server-B/process")
	b.ReportMetric(0, "ns/op")
}
