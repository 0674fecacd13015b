package natstest

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// Labelled returns the URL of a server that claims to be another version. Clients connect by way of
// a proxy that changes the version in the server's INFO.
func (s *Server) Labelled(t testing.TB, version string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	target := strings.TrimPrefix(s.URL(), "nats://")
	go func() { // ends with l
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			srv, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			go relabel(client, srv, version)
			go func() { // ends with either connection, as relabel does
				_, _ = io.Copy(srv, client)
				_ = srv.Close()
			}()
		}
	}()
	return "nats://" + l.Addr().String()
}

// relabel copies what a server sends, line by line.
func relabel(client, srv net.Conn, version string) {
	defer func() { _ = client.Close() }()
	have, want := `"version":"`+server.VERSION+`"`, `"version":"`+version+`"`
	for r := bufio.NewReader(srv); ; {
		line, err := r.ReadString('\n')
		if strings.HasPrefix(line, "INFO ") {
			line = strings.Replace(line, have, want, 1)
		}
		if _, failed := io.WriteString(client, line); err != nil || failed != nil {
			return
		}
	}
}
