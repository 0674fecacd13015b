package debug_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/debug"
)

// A program serves the page beside its metrics.
func ExampleHandler() {
	url, stop := natstest.Run()
	defer stop()
	nc, err := nats.Connect(url)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()

	ctx, mux := context.Background(), http.NewServeMux()

	var events debug.Events // keeps the last 100
	reg, err := kvregistry.New(ctx, nc, kvregistry.OnEvent(events.Add))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	mux.Handle("/debug/kvregistry", debug.Handler(reg, debug.WithEvents(&events)))

	srv := httptest.NewServer(mux) // a program has http.ListenAndServe
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/debug/kvregistry")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	fmt.Println(resp.Status, resp.Header.Get("Content-Type"))
	// Output: 200 OK text/plain; charset=utf-8
}
