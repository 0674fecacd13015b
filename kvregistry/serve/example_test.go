package serve_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/serve"
)

// A server is registered while it serves, and stops without a failed request.
func ExampleHTTP() {
	url, stopNATS := natstest.Run()
	defer stopNATS()
	nc, err := nats.Connect(url)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	reg, err := kvregistry.New(context.Background(), nc,
		kvregistry.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()

	ctx, stop := context.WithCancel(context.Background()) // a program has SIGTERM for that
	go func() {
		one, err := reg.GetServiceContext(ctx, "httptest")
		for ; err != nil; one, err = reg.GetServiceContext(ctx, "httptest") {
			time.Sleep(time.Millisecond)
		}
		resp, err := http.Get(one.URL)
		if err == nil {
			fmt.Println(resp.Status, resp.Body.Close())
		}
		stop()
	}()
	srv := &http.Server{Addr: "127.0.0.1:0",
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	err = serve.HTTP(ctx, reg, srv, kvregistry.Service{Name: "httptest"},
		serve.Settle(10*time.Millisecond))
	fmt.Println(err, len(reg.RegisteredServices()))
	// Output:
	// 200 OK <nil>
	// <nil> 0
}
