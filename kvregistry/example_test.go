package kvregistry_test

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// connect stands for nats.Connect("nats://localhost:4222") in the examples.
func connect() (*nats.Conn, func()) {
	url, stop := natstest.Run()
	nc, err := nats.Connect(url)
	if err != nil {
		log.Fatal(err)
	}
	return nc, func() { nc.Close(); stop() }
}

// A service registers, and a client finds it.
func Example() {
	nc, stop := connect()
	defer stop()

	reg, err := kvregistry.Connect(kvregistry.Nats(nc))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	unregister, err := reg.Register(kvregistry.Service{Name: "httptest",
		URL: "http://localhost:8083/test"})
	if err != nil {
		log.Fatal(err)
	}

	one, err := reg.GetService("httptest")
	fmt.Println(one.URL, err)

	fmt.Println(unregister())
	_, err = reg.GetService("httptest")
	fmt.Println(errors.Is(err, kvregistry.ErrNotFound))
	// Output:
	// http://localhost:8083/test <nil>
	// <nil>
	// true
}

// A tenant has a registry of its own.
func ExampleNew() {
	nc, stop := connect()
	defer stop()

	acme, err := kvregistry.New(context.Background(), nc, kvregistry.Tenant("acme"),
		kvregistry.TTL(15*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = acme.Close() }()
	if _, err := acme.Register(kvregistry.Service{ID: "1", Name: "billing",
		Address: "10.0.0.1:80"}); err != nil {
		log.Fatal(err)
	}
	names, err := acme.ServiceNames()
	fmt.Println(names, err)
	// Output: [billing] <nil>
}

func ExampleRegistry_GetServices() {
	nc, stop := connect()
	defer stop()
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	for _, s := range []kvregistry.Service{
		{ID: "1", Name: "web", Address: "10.0.0.1:80", Zone: "a"},
		{ID: "2", Name: "web", Address: "10.0.0.2:80", Zone: "b"},
		{ID: "3", Name: "web", Address: "10.0.0.3:80", Zone: "b", Status: kvregistry.Draining},
	} {
		if _, err := reg.Register(s); err != nil {
			log.Fatal(err)
		}
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	list, err := reg.GetServices(ctx, "web", kvregistry.InZone("b"))
	for _, s := range list {
		fmt.Println(s.ID, s.Address)
	}
	fmt.Println(err)
	// Output:
	// 2 10.0.0.2:80
	// <nil>
}

func ExampleRegistry_Watch() {
	nc, stop := connect()
	defer stop()
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	events, err := reg.Watch(ctx, "web")
	if err != nil {
		log.Fatal(err)
	}
	unregister, err := reg.Register(kvregistry.Service{ID: "1", Name: "web",
		Address: "10.0.0.1:80"})
	if err != nil {
		log.Fatal(err)
	}
	e := <-events
	fmt.Println(e.Kind, e.Service.ID)
	if err := unregister(); err != nil {
		log.Fatal(err)
	}
	e = <-events
	fmt.Println(e.Kind, e.Service.ID)
	// Output:
	// registered 1
	// unregistered 1
}

// A client starts before the services it needs.
func ExampleRegistry_WaitFor() {
	nc, stop := connect()
	defer stop()
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	go func() {
		for _, id := range []string{"a", "b"} {
			if _, err := reg.Register(kvregistry.Service{Name: "web", ID: id,
				Address: "localhost:80"}); err != nil {
				log.Print(err)
			}
		}
	}()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	list, err := reg.WaitFor(ctx, "web", 2)
	fmt.Println(len(list), err)
	// Output: 2 <nil>
}

// A reader that follows a service's list, as a load balancer does, loops over its snapshots.
func ExampleRegistry_Snapshots() {
	nc, stop := connect()
	defer stop()
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()

	for snap, err := range reg.Snapshots(context.Background(), "web") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(snap.Len(), "instances")
		if snap.Len() == 1 {
			break
		}
		if _, err := reg.Register(kvregistry.Service{Name: "web",
			Address: "localhost:80"}); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 0 instances
	// 1 instances
}

// An observer reads the changes one after the other.
func ExampleRegistry_Events() {
	nc, stop := connect()
	defer stop()
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	unregister, err := reg.Register(kvregistry.Service{Name: "web", ID: "a",
		Address: "localhost:80"})
	if err != nil {
		log.Fatal(err)
	}

	for e, err := range reg.Events(context.Background(), "web") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Kind, e.Service.ID)
		if e.Kind == kvregistry.Unregistered {
			break
		}
		if err := unregister(); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// registered a
	// unregistered a
}

// A program that starts while NATS is away has the services of its last run.
func ExampleSnapshotFile() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := kvregistry.SnapshotFile(filepath.Join(dir, "snapshots.json"))
	nc, stop := connect()
	first, err := kvregistry.New(context.Background(), nc, file)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := first.Register(kvregistry.Service{Name: "web",
		Address: "localhost:80"}); err != nil {
		log.Fatal(err)
	}
	if _, err := first.GetService("web"); err != nil {
		log.Fatal(err)
	}
	stop() // NATS stops, and then this run ends
	_ = first.Close()

	nc, err = nats.Connect("nats://127.0.0.1:1", nats.RetryOnFailedConnect(true))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	second, err := kvregistry.New(context.Background(), nc, file)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	one, err := second.GetService("web")
	fmt.Println(one.Address, err, second.Health().Stale)
	// Output: localhost:80 <nil> [web]
}

// Metrics are read from Health; expvar stands for any library of gauges.
func ExampleRegistry_Health_metrics() {
	nc, stop := connect()
	defer stop()
	reg, err := kvregistry.New(context.Background(), nc,
		kvregistry.OnHealth(func(h kvregistry.Health) {
			log.Printf("registry right: %v", h.OK()) // or a gauge of 0 and 1
		}))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	expvar.Publish("registry", expvar.Func(func() any { return reg.Health() }))

	fmt.Println(strings.Contains(expvar.Get("registry").String(), `"connected":true`))
	// Output: true
}
