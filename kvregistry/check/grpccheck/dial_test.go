package grpccheck_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/transport"
)

// A gRPC client that dials by package transport calls a service by its name. All of its calls go
// over one connection to one instance, and when that instance ends, over one connection to another.
// Seen to fail with one attempt and a picker that stays with the first instance.
func TestCallsByName(t *testing.T) {
	reg, err := kvregistry.New(t.Context(), natstest.Start(t).Connect(),
		kvregistry.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	stops := map[string]func(){}
	for range 2 {
		_, address, stop := server(func(s *grpc.Server) {
			grpc_health_v1.RegisterHealthServer(s, health.NewServer())
		})
		stops[address] = stop
		defer stop()
		if _, err := reg.Register(kvregistry.Service{Name: "orders",
			Address: address}); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := transport.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///orders",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return tr.DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()

	ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
	defer cancel()
	call := func() (address string, err error) {
		var at peer.Peer
		_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx,
			&grpc_health_v1.HealthCheckRequest{}, grpc.Peer(&at), grpc.WaitForReady(true))
		return fmt.Sprint(at.Addr), err
	}
	first, err := call()
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if at, err := call(); at != first || err != nil {
			t.Fatalf("a call went to %s, and the one before to %s: %v", at, first, err)
		}
	}
	stops[first]()
	// A call may meet the connection that just ends.
	natstest.Eventually(t, natstest.Soon, func() error {
		if at, err := call(); err != nil || at == first || stops[at] == nil {
			return fmt.Errorf("a call went to %s, and %s is gone: %w", at, first, err)
		}
		return nil
	})
}
