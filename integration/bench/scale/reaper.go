package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/integration/bench/internal/natsproc"
	"github.com/kvregistry/go/kvregistry"
)

// reaperVariable tells a process that it has to reap, and where.
const reaperVariable = "KVREGISTRY_BENCH_REAPER"

// reaper is a registry in a process of its own, so that the cost of holding a slot can be told
// apart.
type reaper struct {
	cmd *exec.Cmd
	in  io.Closer // its end ends the reaper
}

// reaperMain returns at once, except in a process that startReaper has started.
func reaperMain(ttl time.Duration) {
	url, asked := os.LookupEnv(reaperVariable)
	if !asked {
		return
	}
	if err := reap(url, ttl); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// reap holds a slot, or stands by for one, until the standard input ends.
func reap(url string, ttl time.Duration) error {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	reg, err := kvregistry.New(context.Background(), nc, kvregistry.TTL(ttl),
		kvregistry.Logger(log))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	return reg.Close()
}

// startReaper starts one, with this program's own arguments.
func (b *bench) startReaper() (*reaper, error) {
	cmd, in, out, err := natsproc.Self(reaperVariable+"="+b.servers.URL(), os.Args[1:]...)
	if err != nil {
		return nil, err
	}
	r := &reaper{cmd, in}
	if line, _ := out.ReadString('\n'); line != "ready\n" {
		return nil, errors.Join(errors.New("a reaper did not start"), r.stop())
	}
	return r, nil
}

func (r *reaper) stop() error {
	_ = r.in.Close()
	return r.cmd.Wait()
}
