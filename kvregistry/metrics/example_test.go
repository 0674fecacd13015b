package metrics_test

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/metrics"
)

// A program that has no other metrics serves the page as it is.
func ExampleHandler() {
	url, stop := natstest.Run()
	defer stop()
	nc, err := nats.Connect(url)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()

	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	mux := http.NewServeMux()
	mux.Handle("/metrics", metrics.Handler(reg))

	srv := httptest.NewServer(mux) // a program has http.ListenAndServe
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/metrics")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "kvregistry_up") {
			fmt.Println(lines.Text())
		}
	}
	// Output: kvregistry_up 1
}

// A program that has a Prometheus registry adds the metrics to it, here with a label for the
// tenant.
func ExampleNew() {
	url, stop := natstest.Run()
	defer stop()
	nc, err := nats.Connect(url)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()

	reg, err := kvregistry.New(context.Background(), nc, kvregistry.Tenant("acme"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	all := prometheus.NewRegistry() // a program may have prometheus.DefaultRegisterer
	acme := prometheus.WrapRegistererWith(prometheus.Labels{"tenant": "acme"}, all)
	if err := acme.Register(metrics.New(reg)); err != nil {
		log.Fatal(err)
	}

	families, err := all.Gather()
	for _, f := range families {
		if f.GetName() == "kvregistry_registrations" {
			fmt.Println(f.GetMetric()[0].GetLabel()[0].GetValue(), f.GetName(), err)
		}
	}
	// Output: acme kvregistry_registrations <nil>
}
