package bench

import (
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// latencies are times between a nanosecond and a minute, to three digits.
func latencies() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(time.Minute), 3) }

// report reports a benchmark's median and its 99th percentile, in place of the mean.
func report(b *testing.B, h *hdrhistogram.Histogram) {
	b.ReportMetric(float64(h.ValueAtQuantile(50)), "p50-ns")
	b.ReportMetric(float64(h.ValueAtQuantile(99)), "p99-ns")
	b.ReportMetric(0, "ns/op")
}

// each measures every call of f on its own, after one that is not counted.
func each(b *testing.B, f func(i int) error) {
	b.Helper()
	h := latencies()
	try(b, f(0))
	for i := 1; b.Loop(); i++ {
		began := time.Now()
		err := f(i)
		_ = h.RecordValue(int64(time.Since(began)))
		try(b, err)
	}
	report(b, h)
}

// told measures from the call of write until another client has been told of it. It takes the write
// back by end, which is not measured but told too.
func told(b *testing.B, seen <-chan time.Time, write, end func(i int) error) {
	b.Helper()
	h := latencies()
	for i := 0; b.Loop(); i++ {
		began := time.Now()
		err := write(i)
		try(b, err)
		_ = h.RecordValue(int64((<-seen).Sub(began)))
		try(b, end(i))
		<-seen
	}
	report(b, h)
}

func try(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
