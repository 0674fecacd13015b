package kvregistry_test

import (
	"context"
	"errors"
	"fmt"
	"log"
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
	unregister, err := reg.Register(kvregistry.Service{Name: "httptest", URL: "http://localhost:8083/test"})
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

// A registry of its own, for one tenant of several.
func ExampleNew() {
	nc, stop := connect()
	defer stop()

	acme, err := kvregistry.New(context.Background(), nc, kvregistry.Tenant("acme"), kvregistry.TTL(15*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = acme.Close() }()
	if _, err := acme.Register(kvregistry.Service{ID: "1", Name: "billing", Address: "10.0.0.1:80"}); err != nil {
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
	unregister, err := reg.Register(kvregistry.Service{ID: "1", Name: "web", Address: "10.0.0.1:80"})
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
