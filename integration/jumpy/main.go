// Program jumpy is a service and an observer for a test of the clock: it is built with a standard
// library whose wall clock jumps by hours, forward and back, every few hundred milliseconds.
//
//	jumpy nats://127.0.0.1:4222 an-id
//
// It registers the id as an instance of web, observes web, and prints each event, each loss of its
// lease, and how often its clock jumped. It ends with its standard input.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
}

func run(url, id string) error {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	reg, err := kvregistry.New(context.Background(), nc, kvregistry.TTL(2*time.Second),
		kvregistry.Logger(slog.New(slog.DiscardHandler)),
		kvregistry.OnEvent(func(e kvregistry.Event) { fmt.Println("event", e.Kind, e.Service.ID) }))
	if err != nil {
		return err
	}
	if _, err := reg.Register(kvregistry.Service{Name: "web", ID: id,
		URL: "http://127.0.0.1:8083/" + id}); err != nil {
		return err
	}
	if err := reg.ObserveContext(context.Background(), "web"); err != nil {
		return err
	}
	fmt.Println("ready")
	end := make(chan struct{})
	go func() { // ends with the standard input
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(end)
	}()
	watch(end)
	h := reg.Health()
	fmt.Println("health", h.OK(), h.Resyncs)
	return reg.Close()
}

// watch prints each jump of the wall clock, as the monotonic one shows it.
func watch(end <-chan struct{}) {
	for last := time.Now(); ; {
		select {
		case <-end:
			return
		case <-time.After(10 * time.Millisecond):
		}
		now := time.Now()
		if off := now.Round(0).Sub(last.Round(0)) - now.Sub(last); off.Abs() > time.Minute {
			fmt.Println("jumped", off.Round(time.Second))
		}
		last = now
	}
}
