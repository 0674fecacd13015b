package kvregistry_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Instances that Leave leaves behind stay until their successor has them, and no observer sees a
// change. Without a successor they go with the lease. Seen to fail with a Leave that ends what was
// registered, and with one that goes on sending heartbeats.
func TestLeave(t *testing.T) {
	nc := natstest.Start(t).Connect()
	open := func() *kvregistry.Registry {
		// the time that the successor has
		r, err := kvregistry.New(t.Context(), nc, kvregistry.TTL(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	}
	register := func(r *kvregistry.Registry, id string) {
		t.Helper()
		if _, err := r.Register(kvregistry.Service{ID: id, Name: "web",
			Address: "10.0.0.1:80"}); err != nil {
			t.Fatal(err)
		}
	}
	observer, first, second := open(), open(), open()
	events, err := observer.Watch(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	next := func(want kvregistry.Kind, id string) {
		t.Helper()
		select {
		case e := <-events:
			if e.Kind != want || e.Service.ID != id {
				t.Fatalf("%s of %s, want %s of %s", e.Kind, e.Service.ID, want, id)
			}
		case <-time.After(natstest.Soon):
			t.Fatalf("no %s of %s", want, id)
		}
	}
	register(first, "kept")
	next(kvregistry.Registered, "kept")
	register(first, "left")
	next(kvregistry.Registered, "left")
	if err := first.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Register(kvregistry.Service{Name: "web",
		Address: "10.0.0.1:80"}); !errors.Is(err, kvregistry.ErrClosed) {
		t.Fatalf("register after Leave: %v, want ErrClosed", err)
	}
	register(second, "kept")
	next(kvregistry.Expired, "left")
	if one, err := observer.GetService("web"); err != nil || one.ID != "kept" {
		t.Fatalf("%+v, %v: the successor's is not there", one, err)
	}
}

// Leave returns no error if there is nothing to take back. That holds with a context that has
// ended, and with a function that does not return. Seen to fail with an end that waits for the
// function.
func TestEndWithoutTime(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t).Connect()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, end := range map[string]func(*kvregistry.Registry) error{
		"Close": func(r *kvregistry.Registry) error { return r.CloseContext(ended) },
		"Leave": func(r *kvregistry.Registry) error { return r.Leave(ended) },
	} {
		for _, stuck := range []bool{false, true} {
			entered, leave := make(chan struct{}), make(chan struct{})
			enter := sync.OnceFunc(func() { close(entered) })
			r, err := kvregistry.New(t.Context(), nc, kvregistry.OnEvent(func(kvregistry.Event) {}),
				kvregistry.OnHealth(func(kvregistry.Health) {
					if enter(); stuck {
						<-leave
					}
				}))
			if err != nil {
				t.Fatal(err)
			}
			<-entered
			if err := end(r); err != nil {
				t.Errorf("%s with a function that has not returned (%v): %v", name, stuck, err)
			}
			close(leave)
		}
	}
}

// Leave keeps the registrations of a program that is restarted, for its successor.
func ExampleRegistry_Leave() {
	nc, stop := connect()
	defer stop()
	ctx := context.Background()
	before, err := kvregistry.New(ctx, nc)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := before.Register(kvregistry.Service{ID: "1", Name: "web",
		Address: "10.0.0.1:80"}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(before.Leave(ctx))

	after, err := kvregistry.New(ctx, nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = after.Close() }()
	one, err := after.GetService("web") // it is not registered again yet
	fmt.Println(one.ID, err)
	// Output:
	// <nil>
	// 1 <nil>
}
