// Tenants measures what many tenants cost one server: their buckets are made, a process registers in each and observes it, and they are deleted. The
// server is a process of its own, so that its memory is its own.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

func main() {
	n := flag.Int("n", 1000, "how many tenants")
	rest := flag.Duration("rest", 15*time.Second, "how long the server's processor time is measured with everything idle")
	serve := flag.String("serve", "", "be the server, with its store in this `folder`")
	flag.Parse()
	err := error(nil)
	if *serve != "" {
		err = serveIn(*serve)
	} else {
		err = measure(*n, *rest)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serveIn runs a server until its standard input ends, and prints its URL.
func serveIn(folder string) error {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: folder, NoSigs: true})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return fmt.Errorf("the server is not ready")
	}
	fmt.Println(s.ClientURL())
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// peer is the server's process.
type peer struct {
	cmd    *exec.Cmd
	folder string
	url    string
}

func begin() (p *peer, end func(), err error) {
	folder, err := os.MkdirTemp("", "tenants")
	if err != nil {
		return nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(self, "-serve", folder)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	end = func() {
		_ = in.Close()
		_ = cmd.Wait()
		_ = os.RemoveAll(folder)
	}
	return &peer{cmd, folder, strings.TrimSpace(url)}, end, err
}

// memory is what a process holds of the machine's memory, in bytes, as Linux says.
func memory(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, line, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return 0
	}
	kb, _ := strconv.ParseInt(fields[0], 10, 64)
	return kb << 10
}

// processor is how long a process has computed, as Linux says, in hundredths of a second.
func processor(pid int) time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, line, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(line)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func (p *peer) disk() (bytes int64) {
	_ = filepath.WalkDir(p.folder, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}

// timed does something for each tenant, one after the other, and prints how long that took.
func timed(what string, n int, f func(i int) error) error {
	took := make([]time.Duration, n)
	for i := range n {
		began := time.Now()
		if err := f(i); err != nil {
			return fmt.Errorf("%s %d: %w", what, i, err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	fmt.Printf("| %s | %.2f ms | %.2f ms |\n", what, took[n/2].Seconds()*1e3, took[n*99/100].Seconds()*1e3)
	return nil
}

func measure(n int, rest time.Duration) error {
	p, end, err := begin()
	if err != nil {
		return err
	}
	defer end()
	nc, err := nats.Connect(p.url)
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx := context.Background()
	name := func(i int) string { return fmt.Sprintf("t%04d", i) }
	pid, own := p.cmd.Process.Pid, os.Getpid()
	state := func(what string) {
		runtime.GC()
		fmt.Printf("%s: server %d MB, disk %d MB, client %d MB, %d goroutines\n\n", what, memory(pid)>>20, p.disk()>>20, memory(own)>>20, runtime.NumGoroutine())
	}
	state("before")
	fmt.Print("| each of the tenants, one after the other | median | p99 |\n| --- | --- | --- |\n")
	if err := timed("bucket made", n, func(i int) error { return tenant.Provision(ctx, nc, name(i), tenant.Config{}) }); err != nil {
		return err
	}
	state("\nmade")
	regs := make([]*kvregistry.Registry, n)
	quiet := kvregistry.Logger(slog.New(slog.DiscardHandler))
	if err := timed("registry opened", n, func(i int) (err error) {
		regs[i], err = kvregistry.New(ctx, nc, kvregistry.Tenant(name(i)), quiet)
		return err
	}); err != nil {
		return err
	}
	if err := timed("first instance registered", n, func(i int) error {
		_, err := regs[i].Register(kvregistry.Service{Name: "web", ID: "a", Address: "127.0.0.1:1"})
		return err
	}); err != nil {
		return err
	}
	if err := timed("first look-up", n, func(i int) error { _, err := regs[i].GetService("web"); return err }); err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // for what the start leaves to do
	before, beforeOwn := processor(pid), processor(own)
	time.Sleep(rest) // is what is measured
	fmt.Printf("\nidle for %s: server %.1f %%, client %.1f %% of a core\n", rest,
		100*(processor(pid)-before).Seconds()/rest.Seconds(), 100*(processor(own)-beforeOwn).Seconds()/rest.Seconds())
	state("used")
	if err := timed("registry closed", n, func(i int) error { return regs[i].Close() }); err != nil {
		return err
	}
	if err := timed("bucket deleted", n, func(i int) error { return tenant.Remove(ctx, nc, name(i)) }); err != nil {
		return err
	}
	regs = nil
	state("\ndeleted")
	return nil
}
