// Quiet measures what idle processes cost a server, and how that grows with their number. Each
// number of processes has a server of its own, in a process of its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kvregistry/go/integration/bench/internal/natsproc"
	"github.com/kvregistry/go/integration/bench/internal/processes"
	"github.com/kvregistry/go/kvregistry"
)

func main() {
	natsproc.Main()
	ns := []int{100, 500, 2000}
	flag.Func("processes", "`numbers` of processes, with commas between them (default "+
		"100,500,2000)",
		func(text string) (err error) {
			ns, err = numbers(text)
			return err
		})
	ttl := flag.Duration("ttl", kvregistry.DefaultTTL, "time to live of every lease")
	window := flag.Duration("for", time.Minute, "how long each number is measured")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, ns, *ttl, *window); err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1)
	}
}

func numbers(text string) (list []int, err error) {
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a number of processes", part)
		}
		list = append(list, n)
	}
	return list, nil
}

func run(ctx context.Context, ns []int, ttl, window time.Duration) error {
	fmt.Printf("a TTL of %s, %s each; those that reap are included\n\n", ttl, window)
	fmt.Println("| processes | in, per process and second | out, per process and second |" +
		" server, of a core | server's memory | above an empty one |")
	fmt.Println("| --- | --- | --- | --- | --- | --- |")
	var in, out []float64
	for _, n := range ns {
		c, err := measure(ctx, n, ttl, window)
		if err != nil {
			return err
		}
		const mb = 1 << 20
		fmt.Printf("| %d | %.3f | %.3f | %.1f %% | %.0f MB | %.0f MB |\n", c.Processes, c.In, c.Out,
			100*c.Processor, float64(c.Memory)/mb, float64(c.Added)/mb)
		in, out = append(in, c.In), append(out, c.Out)
	}
	fmt.Printf("\nthe largest beside the smallest: in %.2f, out %.2f\n",
		slices.Max(in)/slices.Min(in), slices.Max(out)/slices.Min(out))
	return nil
}

// measure measures n processes on a server of their own.
func measure(ctx context.Context, n int, ttl, window time.Duration) (processes.Cost, error) {
	fleet, err := processes.Start(ctx, n, ttl)
	if err != nil {
		return processes.Cost{}, err
	}
	defer fleet.Stop()
	return fleet.Measure(ctx, window)
}
