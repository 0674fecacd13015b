package bridge_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/bridge"
)

// A process that has moved finds one that has not.
func Example() {
	url, stop := natstest.Run() // stands for the server at nats://localhost:4222
	defer stop()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	b, err := bridge.New(ctx, nc, bridge.Tenant("acme"), bridge.Prefix("registry"),
		bridge.Logger(discard))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = b.Close() }()

	// This is what a plain process publishes when it calls Register.
	message := `{"name":"httptest","url":"http://localhost:8083/test",` +
		`"t":{"Registered":0,"Duration":20000}}`
	if err := nc.Publish("registry.register.httptest", []byte(message)); err != nil {
		log.Fatal(err)
	}

	reg, err := kvregistry.New(ctx, nc, kvregistry.Tenant("acme"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	events, err := reg.Watch(ctx, "httptest")
	if err != nil {
		log.Fatal(err)
	}
	e := <-events
	fmt.Println(e.Kind, e.Service.URL, "heard under", e.Service.Metadata[bridge.Origin])
	// Output: registered http://localhost:8083/test heard under registry
}
