// Package embedded runs nats-servers for tests in the test's process, on loopback.
package embedded

import (
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// StartTime bounds the start of a server on a busy machine.
const StartTime = 30 * time.Second

// Options are those of a server with JetStream at a port, with its data in a folder. They are the
// same for a server that comes back to its data.
func Options(port int, folder string) server.Options {
	return server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: folder,
		NoLog: true, NoSigs: true}
}

// Start starts a server on its data. It does not wait for other servers of a cluster.
func Start(opts server.Options) (*server.Server, error) {
	srv, err := server.NewServer(&opts)
	if err != nil {
		return nil, err
	}
	srv.Start()
	return srv, nil
}

// Stop ends a server, and returns when it has ended.
func Stop(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}
