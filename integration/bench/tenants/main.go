// Tenants measures what many tenants cost one server: their buckets are made, a process registers
// in each and observes it, and they are deleted. The server is a process of its own, so that its
// memory can be told apart.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/integration/bench/internal/natsproc"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

func main() {
	natsproc.Main()
	n := flag.Int("n", 1000, "how many tenants")
	rest := flag.Duration("rest", 15*time.Second, "how long the server's processor time is "+
		"measured with everything idle")
	flag.Parse()
	if err := measure(*n, *rest); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// timed calls a function for each tenant, one after the other, and prints how long each call took.
func timed(what string, n int, f func(i int) error) error {
	took := make([]time.Duration, n)
	for i := range n {
		began := time.Now()
		if err := f(i); err != nil {
			return fmt.Errorf("%s %d: %w", what, i, err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	fmt.Printf("| %s | %.2f ms | %.2f ms |\n", what, took[n/2].Seconds()*1e3,
		took[n*99/100].Seconds()*1e3)
	return nil
}

func measure(n int, rest time.Duration) error {
	servers, err := natsproc.Start(1, "")
	if err != nil {
		return err
	}
	defer servers.Stop()
	server, own := servers.List[0], os.Getpid()
	nc, err := nats.Connect(server.URL)
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx := context.Background()
	name := func(i int) string { return fmt.Sprintf("t%04d", i) }
	state := func(what string) {
		runtime.GC()
		fmt.Printf("%s: server %d MB, disk %d MB, client %d MB, %d goroutines\n\n", what,
			natsproc.UsageOf(server.PID).Memory>>20, server.Stored()>>20,
			natsproc.UsageOf(own).Memory>>20, runtime.NumGoroutine())
	}
	state("before")
	fmt.Print("| each of the tenants, one after the other | median | p99 |\n| --- | --- | --- |\n")
	if err := timed("bucket made", n, func(i int) error {
		return operator.Provision(ctx, nc, name(i), tenant.Config{})
	}); err != nil {
		return err
	}
	state("\nmade")
	regs := make([]*kvregistry.Registry, n)
	quiet := kvregistry.Logger(slog.New(slog.DiscardHandler))
	if err := timed("registry opened", n, func(i int) (err error) {
		regs[i], err = kvregistry.New(ctx, nc, kvregistry.Tenant(name(i)), quiet)
		return err
	}); err != nil {
		return err
	}
	if err := timed("first instance registered", n, func(i int) error {
		_, err := regs[i].Register(kvregistry.Service{Name: "web", ID: "a", Address: "127.0.0.1:1"})
		return err
	}); err != nil {
		return err
	}
	if err := timed("first look-up", n, func(i int) error {
		_, err := regs[i].GetService("web")
		return err
	}); err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // for the rest of the start's work
	before, beforeOwn := natsproc.UsageOf(server.PID).Processor, natsproc.UsageOf(own).Processor
	time.Sleep(rest) // this is measured
	fmt.Printf("\nidle for %s: server %.1f %%, client %.1f %% of a core\n", rest,
		100*(natsproc.UsageOf(server.PID).Processor-before).Seconds()/rest.Seconds(),
		100*(natsproc.UsageOf(own).Processor-beforeOwn).Seconds()/rest.Seconds())
	state("used")
	if err := timed("registry closed", n, func(i int) error {
		return regs[i].Close()
	}); err != nil {
		return err
	}
	if err := timed("bucket deleted", n, func(i int) error {
		return operator.Remove(ctx, nc, name(i))
	}); err != nil {
		return err
	}
	regs = nil
	state("\ndeleted")
	return nil
}
