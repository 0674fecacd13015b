package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// serverConfig configures an embedded server.
type serverConfig struct {
	store    string
	host     string
	port     int       // 0 is a free one
	warnings io.Writer // where the server's warnings and errors go
}

// natsServer is a NATS server with JetStream in this process.
type natsServer struct {
	srv   *server.Server
	store io.Closer // releases the store
	port  int       // that it listens on
}

// startServer starts a server on its store, and returns when clients can connect.
func startServer(cfg serverConfig) (*natsServer, error) {
	if err := checkFree(cfg.host, cfg.port); err != nil {
		return nil, err
	}
	store, err := openStore(cfg.store)
	if err != nil {
		return nil, err
	}
	port := cfg.port
	if port == 0 {
		port = server.RANDOM_PORT // 0 would be the default port
	}
	srv, err := server.NewServer(&server.Options{
		Host: cfg.host, Port: port, JetStream: true, StoreDir: cfg.store, NoSigs: true,
	})
	if err != nil {
		_ = store.Close()
		return nil, fmt.Errorf("the NATS server does not start: %w", err)
	}
	log := &serverLog{out: cfg.warnings, fatal: make(chan string, 1)}
	srv.SetLogger(log, false, false)
	s := &natsServer{srv: srv, store: store}
	srv.Start()
	if err := s.awaitReady(log); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// awaitReady waits until the server listens, or has logged why it does not.
func (s *natsServer) awaitReady(log *serverLog) error {
	const patience = 10 * time.Second
	for began := time.Now(); ; {
		select {
		case why := <-log.fatal:
			return fmt.Errorf("the NATS server does not start: %s", why)
		default:
		}
		if s.srv.ReadyForConnections(50 * time.Millisecond) {
			s.port = s.srv.Addr().(*net.TCPAddr).Port
			return nil
		}
		if time.Since(began) > patience {
			return fmt.Errorf("the NATS server is not ready after %s", patience)
		}
	}
}

// checkFree returns an error with a remedy if nothing can listen on the address. The server itself
// would only log it.
func checkFree(host string, port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	switch {
	case err == nil:
		return l.Close()
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %d of %s is in use: stop what listens there, or choose another "+
			"with --port", port, address(host))
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("port %d may not be listened on: choose one above 1023 with --port", port)
	default:
		return fmt.Errorf("can't listen on %s, choose another address with --host: %w",
			address(host), cause(err))
	}
}

// address returns a host as a message names it.
func address(host string) string {
	if net.ParseIP(host) == nil && host != "localhost" {
		return "this host"
	}
	return host
}

// url returns the server's address for clients.
func (s *natsServer) url() string { return s.srv.ClientURL() }

// stop stops the server, if it runs. Its data stay in the store.
func (s *natsServer) stop() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
	_ = s.store.Close()
}
