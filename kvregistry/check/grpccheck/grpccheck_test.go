package grpccheck_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/check"
	"github.com/kvregistry/go/kvregistry/check/grpccheck"
)

// server starts a gRPC server and makes a connection to it.
func server(register func(*grpc.Server)) (conn *grpc.ClientConn, address string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := grpc.NewServer()
	register(srv)
	go func() { _ = srv.Serve(l) }() // ends with stop
	conn, err = grpc.NewClient(l.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	return conn, l.Addr().String(), func() { _ = conn.Close(); srv.Stop() }
}

// The status follows the server's health of the service, and a service that the server does not
// know is a failure. Seen to fail with NOT_SERVING taken for SERVING.
func TestHealth(t *testing.T) {
	said := health.NewServer()
	conn, address, stop := server(func(s *grpc.Server) {
		grpc_health_v1.RegisterHealthServer(s, said)
	})
	defer stop()
	bare, _, stopBare := server(func(*grpc.Server) {})
	defer stopBare()
	nc := natstest.Start(t).Connect()
	reg, err := kvregistry.New(t.Context(), nc, kvregistry.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	often := []check.Option{check.Every(10 * time.Millisecond), check.Rise(1), check.Fall(1)}

	said.SetServingStatus("orders", grpc_health_v1.HealthCheckResponse_SERVING)
	if _, err := reg.Register(kvregistry.Service{Name: "orders", Address: address,
		Status: kvregistry.Critical}); err != nil {
		t.Fatal(err)
	}
	run, err := check.Run(reg, "orders", grpccheck.Health(conn, "orders", often...))
	if err != nil {
		t.Fatal(err)
	}
	defer run.Stop()
	for _, is := range []struct {
		said grpc_health_v1.HealthCheckResponse_ServingStatus
		want kvregistry.Status
	}{
		{grpc_health_v1.HealthCheckResponse_SERVING, kvregistry.Passing},
		{grpc_health_v1.HealthCheckResponse_NOT_SERVING, kvregistry.Critical},
		{grpc_health_v1.HealthCheckResponse_SERVING, kvregistry.Passing},
		{grpc_health_v1.HealthCheckResponse_UNKNOWN, kvregistry.Critical},
	} {
		said.SetServingStatus("orders", is.said)
		natstest.Eventually(t, natstest.Soon, func() error {
			snap, err := reg.Snapshot("orders")
			if err != nil || snap.Len() != 1 || snap.At(0).Status != is.want {
				return fmt.Errorf("%v, want %s after the server said %s", err, is.want, is.said)
			}
			return nil
		})
	}
	for name, c := range map[string]check.Check{
		"no such service": grpccheck.Health(conn, "other", often...),
		"no health":       grpccheck.Health(bare, "", often...),
	} {
		other, err := check.Run(reg, "other", c)
		if err != nil {
			t.Fatal(err)
		}
		if status, err := other.Wait(t.Context()); err != nil || status != kvregistry.Critical {
			t.Errorf("%s gave %s, %v", name, status, err)
		}
		other.Stop()
	}
	if _, err := check.Run(reg, "orders", grpccheck.Health(nil, "")); !errors.Is(err,
		kvregistry.ErrInvalidOption) {
		t.Errorf("no connection gave %v", err)
	}
}

// A server that is down is a failure, at once and not only at the check's timeout, and passes when
// it is up again. Seen to fail with a call that waits until the connection is ready.
func TestHealthWhileTheServerIsDown(t *testing.T) {
	address := fmt.Sprint("127.0.0.1:", natstest.FreePort(t))
	up := func() *grpc.Server {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		srv := grpc.NewServer()
		grpc_health_v1.RegisterHealthServer(srv, health.NewServer())
		go func() { _ = srv.Serve(l) }() // ends with srv.Stop
		return srv
	}
	srv := up()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	reg, err := kvregistry.New(t.Context(), natstest.Start(t).Connect(),
		kvregistry.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	run, err := check.Run(reg, "orders", grpccheck.Health(conn, "",
		check.Every(10*time.Millisecond), check.Timeout(time.Minute), check.Rise(1), check.Fall(1)))
	if err != nil {
		t.Fatal(err)
	}
	defer run.Stop()
	is := func(want kvregistry.Status) {
		t.Helper()
		natstest.Eventually(t, natstest.Soon, func() error {
			if got := run.Results()[0]; got.Status != want {
				return fmt.Errorf("%s, want %s: %v", got.Status, want, got.Err)
			}
			return nil
		})
	}
	is(kvregistry.Passing)
	srv.Stop()
	is(kvregistry.Critical)
	srv = up()
	defer srv.Stop()
	is(kvregistry.Passing)
}

func ExampleHealth() {
	said := health.NewServer() // serving, as a whole, from the start
	conn, address, stop := server(func(s *grpc.Server) {
		grpc_health_v1.RegisterHealthServer(s, said)
	})
	defer stop()
	url, stopNats := natstest.Run()
	defer stopNats()
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

	checks, err := check.Run(reg, "orders", grpccheck.Health(conn, ""))
	if err != nil {
		log.Fatal(err)
	}
	defer checks.Stop()
	status, err := checks.Wait(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	_, err = reg.Register(kvregistry.Service{Name: "orders", Address: address, Status: status})
	fmt.Println(status, err)
	// Output: passing <nil>
}
