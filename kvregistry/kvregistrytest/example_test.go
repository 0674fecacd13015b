package kvregistrytest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

// start starts a process of the service "web".
func start(t *testing.T, env *kvregistrytest.Env, id string) *kvregistry.Registry {
	t.Helper()
	process := env.Open()
	_, err := process.Register(kvregistry.Service{Name: "web", ID: id, Address: "127.0.0.1:80"})
	if err != nil {
		t.Fatal(err)
	}
	return process
}

// next returns when an event says that an instance changed.
func next(t *testing.T, events <-chan kvregistry.Event, kind kvregistry.Kind, id string) {
	t.Helper()
	for e := range events {
		if e.Kind == kind && e.Service.ID == id {
			return
		}
	}
	t.Fatalf("no event says that %s is %s", id, kind)
}

func TestComeAndCrash(t *testing.T) {
	env := kvregistrytest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	events, err := env.Watch(ctx, "web")
	if err != nil {
		t.Fatal(err)
	}

	start(t, env, "a")
	next(t, events, kvregistry.Registered, "a")
	start(t, env, "b")
	next(t, events, kvregistry.Registered, "b")

	env.Kill("a") // at once, not after a TTL
	next(t, events, kvregistry.Expired, "a")
	one, err := env.GetService("web")
	if err != nil || one.ID != "b" {
		t.Errorf("a look-up returns %q, %v, want b", one.ID, err)
	}
}

func TestOutage(t *testing.T) {
	env := kvregistrytest.New(t)
	start(t, env, "a")
	if _, err := env.GetService("web"); err != nil {
		t.Fatal(err)
	}

	env.StopServer()
	one, err := env.GetService("web") // from memory
	if err != nil || one.ID != "a" {
		t.Errorf("a look-up during the outage returns %q, %v, want a", one.ID, err)
	}

	env.StartServer()
	start(t, env, "b")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := env.WaitFor(ctx, "web", 2); err != nil {
		t.Error(err)
	}
}

func TestDrain(t *testing.T) {
	env := kvregistrytest.New(t)
	a := start(t, env, "a")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	events, err := env.Watch(ctx, "web")
	if err != nil {
		t.Fatal(err)
	}
	next(t, events, kvregistry.Registered, "a")

	finish, drained := make(chan struct{}), make(chan error, 1)
	go func() {
		drained <- a.Drain(ctx, kvregistry.Settle(0), // the default is 2.5 s
			kvregistry.Until(func(context.Context) error { <-finish; return nil }))
	}()
	next(t, events, kvregistry.Updated, "a") // its status is draining now
	if _, err := env.GetService("web"); !errors.Is(err, kvregistry.ErrNotFound) {
		t.Errorf("a look-up of a service that drains: %v, want ErrNotFound", err)
	}

	close(finish) // the last call is over
	if err := <-drained; err != nil {
		t.Error(err)
	}
	next(t, events, kvregistry.Unregistered, "a")
}

func ExampleNew() {
	var t *testing.T // the argument of a test

	env := kvregistrytest.New(t)
	process := env.Open() // another process of the tenant
	_, err := process.Register(kvregistry.Service{Name: "web", ID: "a", Address: "127.0.0.1:80"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := env.GetService("web"); err != nil {
		t.Error(err)
	}

	env.Kill("a") // the process crashes

	env.StopServer() // NATS is away
	env.StartServer()
}
