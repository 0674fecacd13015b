package integration

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	registry "github.com/kvregistry/go/kvregistry"
)

// The API of the plain pub/sub registry works as its description uses it: code written for it moves
// by a change of one import.
func TestSeedAPI(t *testing.T) {
	server := natstest.Start(t)

	// on the server side
	c, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal("Could not connect to nats: ", err)
	}
	defer c.Close()
	reg, err := registry.Connect(registry.Nats(c), registry.Timeout(natstest.Soon))
	if err != nil {
		t.Fatal("Could not open registry session", err)
	}
	unregister, err := reg.Register(registry.Service{Name: "httptest",
		URL: "http://localhost:8083/test"})
	if err != nil {
		t.Fatal("Could not register the service ", err)
	}
	defer unregister()

	// on the client side
	r, err := registry.Connect()
	if err != nil {
		t.Fatal("Could not open registry session", err)
	}
	if r != reg {
		t.Fatal("Connect() returned another instance")
	}
	err = registry.Observe("httptest")
	if err != nil {
		t.Fatal("Could not observe service ", err)
	}
	ctx, fct := context.WithTimeout(context.Background(), natstest.Soon)
	defer fct()
	services, err := r.GetServices(ctx, "httptest")
	if err != nil {
		t.Fatal("Could not get services ", err)
	}
	if len(services) != 1 || services[0].URL != "http://localhost:8083/test" {
		t.Fatalf("got %+v", services)
	}
	one, err := reg.GetService("httptest")
	if err != nil || one.Name != "httptest" {
		t.Fatalf("got %+v, %v", one, err)
	}
	if err := reg.Unregister("httptest"); err != nil {
		t.Fatal(err)
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	if c.IsClosed() {
		t.Fatal("Close closed the caller's connection")
	}
}
