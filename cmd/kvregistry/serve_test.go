package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
)

// startServing runs "serve" on a free port and returns its URL.
func startServing(t *testing.T, store string) (p *program, url string) {
	t.Helper()
	p = start(t, "serve", "--store", store, "--port", "0")
	p.says("\n", natstest.Soon)
	url, _, ok := strings.Cut(strings.TrimPrefix(p.out.String(), "ready: "), " ")
	if !ok || !strings.HasPrefix(url, "nats://127.0.0.1:") {
		t.Fatalf("no URL in %q", p.out.String())
	}
	return p, url
}

func TestServeKeepsItsData(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "made", "by serve")
	p, url := startServing(t, store)
	js := jetStream(t, url)
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "kept"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), "key", "value"); err != nil {
		t.Fatal(err)
	}
	stopServing(t, p, syscall.SIGTERM)

	p, url = startServing(t, store)
	kv, err = jetStream(t, url).KeyValue(t.Context(), "kept")
	if err != nil {
		t.Fatal(err)
	}
	entry, err := kv.Get(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(entry.Value()); got != "value" {
		t.Errorf("got %q", got)
	}
	stopServing(t, p, syscall.SIGINT)
}

func jetStream(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(natstest.Connect(t, url))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// stopServing stops "serve", which has to end well and to have printed one line.
func stopServing(t *testing.T, p *program, s os.Signal) {
	t.Helper()
	p.signal(s)
	if code := p.code(natstest.Soon); code != 0 {
		t.Errorf("exit code %d after %s", code, s)
	}
	if out := p.out.String(); strings.Count(out, "\n") != 1 {
		t.Errorf("not one line: %q", out)
	}
	said(t, "standard error", p.err.String(), "")
}

func TestServeSaysWhyItCannot(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	taken := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used := t.TempDir()
	startServing(t, used)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"port in use": {[]string{"--port", taken, "--store", t.TempDir()}, "port " + taken +
			" of 127.0.0.1 is in use"},
		"store is a file": {[]string{"--port", "0", "--store", file}, "can't be written: " +
			"choose another with --store"},
		"store below a file": {[]string{"--port", "0", "--store", filepath.Join(file, "store")},
			"can't be written: choose another with --store"},
		"store in use": {[]string{"--port", "0", "--store", used}, "is in use by another " +
			"server"},
		"no address of ours": {[]string{"--port", "0", "--store", t.TempDir(), "--host",
			"192.0.2.1"}, "choose another address with --host"},
		"JetStream not to be": {[]string{"--port", "0", "--store", spoilt(t)}, "the NATS server " +
			"does not start"},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, append([]string{"serve"}, test.args...)...)
			if code := p.code(natstest.Soon); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			said(t, "standard output", p.out.String(), "")
			said(t, "standard error", p.err.String(), test.want)
		})
	}
}

// spoilt is a store that can be written, but not by JetStream.
func spoilt(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A client chooses text that the server logs: a subject with an escape sequence. "serve" prints it
// escaped, in one line. Seen to fail with the server's text as it is.
func TestServeQuotesWhatClientsChoose(t *testing.T) {
	t.Parallel()
	p, url := startServing(t, t.TempDir())
	nc := natstest.Connect(t, url)
	for _, request := range []string{"STREAM.CREATE", "STREAM.UPDATE", "CONSUMER.CREATE"} {
		if _, err := nc.Request("$JS.API."+request+".\x1b[31mX\u202e",
			[]byte("{no JSON\x1b[0m\r\nforged: line"), natstest.Soon); err != nil {
			t.Fatal(err)
		}
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if text := p.err.String(); !strings.Contains(text, `\x1b[31mX`) {
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})
	if text := p.err.String(); strings.ContainsAny(text, "\x1b\r\u202e") ||
		strings.Contains(text, "\nforged") {
		t.Errorf("%q", text)
	}
}

// A server that other machines reach says that it asks nobody for a password. Seen to fail without
// the line.
func TestServeWarnsOfOpenDoors(t *testing.T) {
	t.Parallel()
	p := start(t, "serve", "--store", t.TempDir(), "--host", "0.0.0.0", "--port", "0")
	p.says("ready: ", natstest.Soon)
	natstest.Eventually(t, natstest.Soon, func() error { // a pipe of its own
		if text := p.err.String(); !strings.Contains(text, "asks nobody for a password") {
			return fmt.Errorf("standard error is %q", text)
		}
		return nil
	})
	if n := strings.Count(p.err.String(), "\n"); n != 1 {
		t.Errorf("%d lines: %s", n, p.err.String())
	}
}

// A flag's error says what its value looks like.
func TestFlagsAreExplained(t *testing.T) {
	t.Parallel()
	if code, _, text := called("demo", "--verbose=maybe"); code != 2 ||
		!strings.Contains(text, "give the option alone, or with =true or =false") {
		t.Errorf("%d %s", code, text)
	}
	for _, command := range []string{"reaper", "bridge", "demo"} {
		if code, _, text := called(command, "--ttl", "15"); code != 2 ||
			!strings.Contains(text, "-ttl is 15: give a number with its unit, as 15s") {
			t.Errorf("%s: %d %s", command, code, text)
		}
	}
}
