// Package grpccheck has a check of gRPC health (grpc.health.v1) for package check. It is a module
// of its own, so that only users of gRPC build gRPC.
package grpccheck

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/check"
)

// Health makes a check that passes if the gRPC server at the other end of conn says that the
// service is serving. An empty name asks for the server as a whole. The caller keeps conn and its
// credentials. The check fails while conn is not connected. The options of conn decide how soon it
// connects again: by gRPC's default, up to 2 minutes after a long outage (grpc.WithConnectParams).
func Health(conn grpc.ClientConnInterface, service string, opts ...check.Option) check.Check {
	if conn == nil {
		opts = append(opts, func(*check.Check) error {
			return fmt.Errorf("%w: Health: the connection is nil", kvregistry.ErrInvalidOption)
		})
	}
	client := grpc_health_v1.NewHealthClient(conn)
	return check.Of(func(ctx context.Context) error {
		resp, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		switch {
		case status.Code(err) == codes.Unimplemented:
			return fmt.Errorf("the server has no health service, register the one of "+
				"google.golang.org/grpc/health: %w", err)
		case status.Code(err) == codes.NotFound:
			return fmt.Errorf("the server's health knows no service %q: %w", service, err)
		case err != nil:
			return err
		case resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING:
			return fmt.Errorf("service %q is %s", service, resp.GetStatus())
		}
		return nil
	}, append([]check.Option{check.Named("grpc")}, opts...)...)
}
