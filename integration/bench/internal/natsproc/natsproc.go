// Package natsproc runs nats-servers in processes of their own, so that their use of the machine
// can be told from that of their clients. The program starts itself again: its main calls Main
// first.
package natsproc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// variable tells a process that it is to be a server, and which one.
const variable = "KVREGISTRY_BENCH_SERVER"

// plan is the configuration of a server.
type plan struct {
	Name    string
	Store   string
	Profile string   // file for its processor profile; none if it is empty
	Cluster string   // host:port for the others of its cluster; empty without one
	Routes  []string // URLs of the others
}

// ready is what a server writes when it accepts clients.
type ready struct{ URL, Monitor string }

// Main returns at once, except in a process that Start has started: there it is the server, and
// ends the process with it.
func Main() {
	text, asked := os.LookupEnv(variable)
	if !asked {
		return
	}
	if err := serve(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve runs a server until its standard input ends.
func serve(text string) error {
	signal.Ignore(os.Interrupt) // for its parent, which then ends it
	var p plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	stop, err := Profile(p.Profile)
	if err != nil {
		return err
	}
	defer stop()
	s, err := server.NewServer(p.options())
	if err != nil {
		return err
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(20 * time.Second) {
		return errors.New("the server is not ready")
	}
	if err := json.NewEncoder(os.Stdout).Encode(ready{s.ClientURL(), "http://" +
		s.MonitorAddr().String()}); err != nil {
		return err
	}
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	return nil
}

func (p plan) options() *server.Options {
	o := &server.Options{
		ServerName: p.Name, Host: "127.0.0.1", Port: server.RANDOM_PORT, HTTPHost: "127.0.0.1",
		HTTPPort:  server.RANDOM_PORT,
		JetStream: true, StoreDir: p.Store, NoLog: true, NoSigs: true,
	}
	if p.Cluster != "" {
		address, _ := net.ResolveTCPAddr("tcp", p.Cluster) // layOut made it
		o.Cluster = server.ClusterOpts{Name: "bench", Host: "127.0.0.1", Port: address.Port}
		o.Routes = server.RoutesFromStr(strings.Join(p.Routes, ","))
	}
	return o
}

// Profile writes a processor profile of this process to a file until stop is called. Without a file
// it does nothing.
func Profile(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}

// Server is a nats-server in a process of its own.
type Server struct {
	Name string
	URL  string
	PID  int

	cmd     *exec.Cmd
	in      io.Closer // its end ends the server
	out     *bufio.Reader
	monitor string
	store   string
}

// Servers are one server, or several that are a cluster.
type Servers struct {
	List   []*Server
	folder string // of all stores
}

// Start starts so many servers, with file storage. With a folder for profiles each writes one of
// its processor there. Stop ends them.
func Start(n int, profiles string) (*Servers, error) {
	folder, err := os.MkdirTemp("", "natsproc")
	if err != nil {
		return nil, err
	}
	all := &Servers{folder: folder}
	plans, err := layOut(n, folder, profiles)
	if err != nil {
		all.Stop()
		return nil, err
	}
	for _, p := range plans {
		s, err := start(p)
		if err != nil {
			all.Stop()
			return nil, err
		}
		all.List = append(all.List, s)
	}
	for _, s := range all.List {
		if err := s.await(); err != nil {
			all.Stop()
			return nil, err
		}
	}
	return all, nil
}

// layOut plans the servers. Those of a cluster need to know each other's ports before they start.
func layOut(n int, folder, profiles string) ([]plan, error) {
	plans := make([]plan, n)
	for i := range plans {
		p := &plans[i]
		p.Name = fmt.Sprint("n", i)
		p.Store = filepath.Join(folder, p.Name)
		if profiles != "" {
			p.Profile = filepath.Join(profiles, p.Name+".pprof")
		}
	}
	if n == 1 {
		return plans, nil
	}
	for i := range plans {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // when all have one, so that no two have the same
		plans[i].Cluster = l.Addr().String()
	}
	for i := range plans {
		for _, other := range plans {
			plans[i].Routes = append(plans[i].Routes, "nats://"+other.Cluster)
		}
	}
	return plans, nil
}

func start(p plan) (*Server, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	cmd, in, out, err := Self(variable + "=" + string(text))
	if err != nil {
		return nil, err
	}
	return &Server{Name: p.Name, PID: cmd.Process.Pid, cmd: cmd, in: in, out: out,
		store: p.Store}, nil
}

// Self starts this program once more, with an environment variable that tells it its part. It
// returns the process's standard input and output.
func Self(env string, args ...string) (*exec.Cmd, io.WriteCloser, *bufio.Reader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), env)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	return cmd, in, bufio.NewReader(out), cmd.Start()
}

// await returns when the server accepts clients, or has ended.
func (s *Server) await() error {
	var r ready
	if err := json.NewDecoder(s.out).Decode(&r); err != nil {
		return fmt.Errorf("server %s did not start: %w", s.Name, err)
	}
	s.URL, s.monitor = r.URL, r.Monitor
	return nil
}

// URL returns the address of all of them for a client.
func (all *Servers) URL() string {
	urls := make([]string, len(all.List))
	for i, s := range all.List {
		urls[i] = s.URL
	}
	return strings.Join(urls, ",")
}

// Stop ends the servers and removes their stores.
func (all *Servers) Stop() {
	for _, s := range all.List {
		_ = s.in.Close()
	}
	for _, s := range all.List {
		_ = s.cmd.Wait()
	}
	_ = os.RemoveAll(all.folder)
}

// Stored returns how many bytes the server's files have.
func (s *Server) Stored() (bytes int64) {
	_ = filepath.WalkDir(s.store, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}

// Traffic is what a server has received and sent since it began, by its own count.
type Traffic struct {
	InMsgs   int64 `json:"in_msgs"`
	OutMsgs  int64 `json:"out_msgs"`
	InBytes  int64 `json:"in_bytes"`
	OutBytes int64 `json:"out_bytes"`
}

// Traffic asks the server for its traffic.
func (s *Server) Traffic() (t Traffic, err error) {
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(s.monitor + "/varz")
	if err != nil {
		return t, err
	}
	defer func() { _ = answer.Body.Close() }()
	return t, json.NewDecoder(answer.Body).Decode(&t)
}

// Since returns the traffic after an earlier time.
func (t Traffic) Since(earlier Traffic) Traffic {
	return Traffic{t.InMsgs - earlier.InMsgs, t.OutMsgs - earlier.OutMsgs,
		t.InBytes - earlier.InBytes, t.OutBytes - earlier.OutBytes}
}
