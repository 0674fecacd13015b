package check_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/check"
)

// open stands for nats.Connect and kvregistry.New in the examples.
func open() (*kvregistry.Registry, func()) {
	url, stop := natstest.Run()
	nc, err := nats.Connect(url)
	if err != nil {
		log.Fatal(err)
	}
	reg, err := kvregistry.New(context.Background(), nc,
		kvregistry.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		log.Fatal(err)
	}
	return reg, func() { _ = reg.Close(); nc.Close(); stop() }
}

// A service is passing while its page answers and its loop runs, and warns while its store is slow.
func ExampleRun() {
	reg, stop := open()
	defer stop()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	var loop check.Heartbeat // loop.Touch() in the service's loop
	var slow atomic.Bool

	checks, err := check.Run(reg, "httptest",
		check.HTTP(srv.URL, check.Every(10*time.Second)),
		loop.Within(30*time.Second),
		check.Of(func(context.Context) error {
			if slow.Load() {
				return errors.New("the store is slow")
			}
			return nil
		}, check.Named("store"), check.OnlyWarns(), check.Every(10*time.Millisecond),
			check.Timeout(time.Second), check.Rise(2), check.Fall(3)))
	if err != nil {
		log.Fatal(err)
	}
	defer checks.Stop()
	status, err := checks.Wait(context.Background()) // until each has run once
	if err != nil {
		log.Fatal(err)
	}
	events, err := reg.Watch(context.Background(), "httptest")
	if err != nil {
		log.Fatal(err)
	}
	s := kvregistry.Service{Name: "httptest", URL: srv.URL, Status: status}
	if _, err := reg.Register(s); err != nil {
		log.Fatal(err)
	}
	fmt.Println((<-events).Service.Status)

	slow.Store(true)
	fmt.Println((<-events).Service.Status, checks.Results()[2].Err)
	// Output:
	// passing
	// warning the store is slow
}

// A worker that serves no requests is critical if its loop has not come round for a minute.
func ExampleHeartbeat() {
	reg, stop := open()
	defer stop()
	var beat check.Heartbeat
	checks, err := check.Run(reg, "worker", beat.Within(time.Minute))
	if err != nil {
		log.Fatal(err)
	}
	defer checks.Stop()
	for range 3 {
		beat.Touch() // then does some work
	}
	fmt.Println(checks.Wait(context.Background()))
	// Output: passing <nil>
}
