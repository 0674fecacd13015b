package kvregistry_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// A listener on all addresses is registered at the one that others reach.
func ExampleFromListener() {
	nc, stop := connect()
	defer stop()
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()

	l, err := net.Listen("tcp", ":0") // any free port
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if _, err := reg.Register(kvregistry.FromListener(l, "httptest")); err != nil {
		log.Fatal(err)
	}
	one, err := reg.GetService("httptest")
	if err != nil {
		log.Fatal(err)
	}
	c, err := net.Dial(one.Network, one.Address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(one.Network, c.Close())
	// Output: tcp <nil>
}

// A service is not found before it listens.
func ExampleListening() {
	nc, stop := connect()
	defer stop()
	// 0 refuses at once
	reg, err := kvregistry.New(context.Background(), nc, kvregistry.Listening(time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()

	port, err := kvregistry.FreePortIn(20000, 20999)
	if err != nil {
		log.Fatal(err)
	}
	_, err = reg.Register(kvregistry.Service{Name: "httptest",
		Address: fmt.Sprint("127.0.0.1:", port)})
	fmt.Println(errors.Is(err, kvregistry.ErrNotListening))
	// Output: true
}

// A graceful stop ends new calls first, then those under way, and then the registration.
func ExampleRegistry_Drain() {
	nc, stop := connect()
	defer stop()
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	if _, err := reg.Register(kvregistry.Service{ID: "1", Name: "httptest",
		Address: "10.0.0.1:80"}); err != nil {
		log.Fatal(err)
	}
	var calls sync.WaitGroup // those under way

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err = reg.Drain(ctx, kvregistry.Settle(50*time.Millisecond),
		kvregistry.Until(func(context.Context) error {
			_, err := reg.GetService("httptest")
			fmt.Println(errors.Is(err, kvregistry.ErrNotFound), len(reg.RegisteredServices()))
			calls.Wait() // or http.Server's Shutdown
			return nil
		}))
	fmt.Println(err, len(reg.RegisteredServices()))
	// Output:
	// true 1
	// <nil> 0
}

// UpdateFunc makes a change that depends on the current value, with no other change in between.
func ExampleRegistry_UpdateFunc() {
	nc, stop := connect()
	defer stop()
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	if _, err := reg.Register(kvregistry.Service{ID: "1", Name: "httptest", Address: "10.0.0.1:80",
		Weight: 10}); err != nil {
		log.Fatal(err)
	}
	err = reg.UpdateFunc(context.Background(), "httptest", "1", func(s *kvregistry.Service) {
		if s.Status == kvregistry.Passing {
			s.Weight /= 2
		}
	})
	fmt.Println(err, reg.RegisteredServices()[0].Weight)
	// Output: <nil> 5
}
