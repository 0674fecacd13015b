package transport_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/transport"
)

// connect stands for nats.Connect and kvregistry.New in the examples.
func connect() (*kvregistry.Registry, func()) {
	at, stop := natstest.Run()
	nc, err := nats.Connect(at)
	if err != nil {
		log.Fatal(err)
	}
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	return reg, func() { _ = reg.Close(); nc.Close(); stop() }
}

// get returns the body of a response.
func get(client *http.Client, url string) string {
	resp, err := client.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	return string(text)
}

// A client calls services by their names. One of the two instances is gone, and still registered.
func Example() {
	reg, stop := connect()
	defer stop()
	instance := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello from "+r.URL.Path)
	}))
	defer instance.Close()
	for id, url := range map[string]string{"1": instance.URL + "/test",
		"2": "http://127.0.0.1:1/test"} {
		if _, err := reg.Register(kvregistry.Service{ID: id, Name: "httptest",
			URL: url}); err != nil {
			log.Fatal(err)
		}
	}

	t, err := transport.New(reg, transport.RetryStatus(502, 503, 504))
	if err != nil {
		log.Fatal(err)
	}
	defer t.CloseIdleConnections()
	client := &http.Client{Transport: t}
	for range 3 {
		fmt.Println(get(client, "http://httptest/path"))
	}
	// Output:
	// hello from /test/path
	// hello from /test/path
	// hello from /test/path
}

// A reverse proxy forwards to a service whose instances come and go.
func ExampleTransport_RoundTrip_reverseProxy() {
	reg, stop := connect()
	defer stop()
	instance := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintln(w, r.URL.Path, "for a client on", r.Header.Get("X-Forwarded-For"))
	}))
	defer instance.Close()
	if _, err := reg.Register(kvregistry.Service{Name: "shop", URL: instance.URL}); err != nil {
		log.Fatal(err)
	}

	t, err := transport.New(reg)
	if err != nil {
		log.Fatal(err)
	}
	defer t.CloseIdleConnections()
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			// The service, never a name from the client.
			r.SetURL(&url.URL{Scheme: "http", Host: "shop"})
			r.SetXForwarded()
		},
		Transport: t,
	})
	defer proxy.Close()
	fmt.Print(get(http.DefaultClient, proxy.URL+"/basket"))
	// Output: /basket for a client on 127.0.0.1
}

// DialContext serves anything that dials: here a protocol of one line. With gRPC:
//
//	dial := grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
//		return t.DialContext(ctx, "tcp", addr)
//	})
//	conn, err := grpc.NewClient("passthrough:///time", dial, …)
func ExampleTransport_DialContext() {
	reg, stop := connect()
	defer stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "twelve o'clock")
			_ = c.Close()
		}
	}()
	if _, err := reg.Register(kvregistry.Service{Name: "time",
		Address: l.Addr().String()}); err != nil {
		log.Fatal(err)
	}

	t, err := transport.New(reg)
	if err != nil {
		log.Fatal(err)
	}
	c, err := t.DialContext(context.Background(), "tcp", "time")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	text, err := io.ReadAll(c)
	fmt.Println(string(text), err)
	// Output: twelve o'clock <nil>
}

// Host gives a host name to a service whose own name cannot be a host, with its own way to choose
// an instance.
func ExampleHost() {
	reg, stop := connect()
	defer stop()
	for version, answer := range map[string]string{"1": "old", "2": "new"} {
		instance := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter,
			r *http.Request) {
			_, _ = io.WriteString(w, answer)
		}))
		defer instance.Close()
		if _, err := reg.Register(kvregistry.Service{Name: "Billing (EU)", Version: version,
			URL: instance.URL}); err != nil {
			log.Fatal(err)
		}
	}

	t, err := transport.New(reg,
		transport.Host("billing", "Billing (EU)"),
		transport.Host("billing-v2", "Billing (EU)", kvregistry.WithVersion("2")),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer t.CloseIdleConnections()
	fmt.Println(get(&http.Client{Transport: t}, "http://billing-v2/"))
	// Output: new
}
