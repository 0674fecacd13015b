package natsserver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
)

// Config configures a server.
type Config struct {
	Store    string // the directory of the data, which is made if it does not exist
	Host     string
	Port     int       // 0 is a free one
	Warnings io.Writer // where the server's warnings and errors go
}

// Server is a NATS server with JetStream in this process.
type Server struct {
	srv   *server.Server
	store io.Closer // releases the store
	port  int
}

// Start starts a server on its store, and returns when clients can connect.
func Start(cfg Config) (*Server, error) {
	if err := checkFree(cfg.Host, cfg.Port); err != nil {
		return nil, err
	}
	store, err := openStore(cfg.Store)
	if err != nil {
		return nil, err
	}
	port := cfg.Port
	if port == 0 {
		port = server.RANDOM_PORT // 0 would be the default port
	}
	srv, err := server.NewServer(&server.Options{
		Host: cfg.Host, Port: port, JetStream: true, StoreDir: cfg.Store, NoSigs: true,
	})
	if err != nil {
		_ = store.Close()
		return nil, fmt.Errorf("the NATS server does not start: %w", err)
	}
	log := &serverLog{out: cfg.Warnings, fatal: make(chan string, 1)}
	srv.SetLogger(log, false, false)
	s := &Server{srv: srv, store: store}
	srv.Start()
	if err := s.awaitReady(log); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// awaitReady waits until the server listens, or has logged why it does not.
func (s *Server) awaitReady(log *serverLog) error {
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
			address(host), cli.Cause(err))
	}
}

// address returns a host as a message names it.
func address(host string) string {
	if net.ParseIP(host) == nil && host != "localhost" {
		return "this host"
	}
	return host
}

// Port is the port that it listens on.
func (s *Server) Port() int { return s.port }

// Addr is the address that it listens on.
func (s *Server) Addr() net.Addr { return s.srv.Addr() }

// URL returns the server's address for clients.
func (s *Server) URL() string { return s.srv.ClientURL() }

// Stop stops the server, if it runs. Its data stay in the store.
func (s *Server) Stop() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
	_ = s.store.Close()
}
