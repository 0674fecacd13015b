// Package grpccheck has a check of gRPC health (grpc.health.v1) for package check. It is a module of its own, so that only who uses gRPC has it built.
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

// Health is a check that passes where the gRPC server that conn is connected to says that a service is serving; an empty name asks for the server as a whole. conn stays the caller's, with
// its credentials. While it can't connect the check fails. How soon it is connected again is conn's to say: by gRPC's default, up to 2 minutes after a long outage (grpc.WithConnectParams).
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
			return fmt.Errorf("the server has no health service, register google.golang.org/grpc/health's: %w", err)
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
