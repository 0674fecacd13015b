package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/kvregistry"
	"github.com/spf13/cobra"
)

// serviceCommand is the name of the command by which the demo starts its services.
const serviceCommand = "demo-service"

// The lines that a service process writes to its standard output: the word, the time in Unix
// nanoseconds, and with wordServing its URL.
const (
	wordServing       = "serving"       // over HTTP; look-ups do not know of it yet
	wordRegistering   = "registering"   // begins to register
	wordUnregistering = "unregistering" // begins to unregister
)

const (
	// How long a service still serves callers that looked it up just before.
	drain   = 200 * time.Millisecond
	goodbye = 2 * time.Second // bounds each step of a graceful stop
)

type serviceConfig struct {
	url, tenant, id string
	ttl             time.Duration
	verbose         bool
}

// ServiceCommand is the hidden command by which the demo starts its services: each is a process of
// its own. SIGTERM stops it gracefully, and so does the end of its standard input, so that it does
// not outlive the demo.
func ServiceCommand(std cli.Streams) *cobra.Command {
	var cfg serviceConfig
	c := &cobra.Command{
		Use: serviceCommand, Short: "be one service of the demo", Hidden: true, Args: cli.Args(),
		RunE: func(*cobra.Command, []string) error { return cfg.start(std) },
	}
	fs := c.Flags()
	fs.StringVar(&cfg.url, "nats", "", "URL of the server")
	fs.StringVar(&cfg.tenant, "tenant", "", "tenant to register in")
	fs.StringVar(&cfg.id, "id", "", "id of the instance")
	fs.DurationVar(&cfg.ttl, "ttl", kvregistry.DefaultTTL, "lease")
	fs.BoolVar(&cfg.verbose, "verbose", false, "log to standard error")
	return c
}

// start runs the service until it is stopped.
func (cfg serviceConfig) start(std cli.Streams) error {
	// A Ctrl-C in a terminal also reaches the demo's services, but the demo ends them. If the demo
	// is gone nothing reads the output, which must not kill a service that is about to unregister.
	signal.Ignore(os.Interrupt, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, std.In)
		stop()
	}()
	return cfg.run(ctx, std)
}

// run serves and is registered until ctx ends.
func (cfg serviceConfig) run(ctx context.Context, std cli.Streams) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, cfg.id)
	})}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }() // ends with Shutdown
	url := fmt.Sprintf("http://%s/", listener.Addr())
	say(std, wordServing, url)
	if err := cfg.register(ctx, url, std); err != nil {
		return err
	}
	bye, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	if err := web.Shutdown(bye); err != nil {
		return err
	}
	if err := <-served; err != http.ErrServerClosed {
		return err
	}
	return nil
}

// register keeps the service registered until ctx ends, and returns when no caller should call it
// any more.
func (cfg serviceConfig) register(ctx context.Context, url string, std cli.Streams) error {
	log := cli.Logger(cfg.verbose, std.Err).With("id", cfg.id)
	nc, err := connect(cfg.url, cfg.id, true, log)
	if err != nil {
		return err
	}
	defer nc.Close()
	reg, err := kvregistry.New(ctx, nc, registryOptions(cfg.tenant, cfg.ttl, log)...)
	if errors.Is(err, kvregistry.ErrInvalidOption) {
		return cli.Usagef("%w", err)
	} else if err != nil {
		return err
	}
	say(std, wordRegistering, "")
	// If the server is away, this waits until it is back, or until the service is to stop.
	_, err = reg.RegisterContext(ctx, kvregistry.Service{Name: demoName, ID: cfg.id, URL: url})
	if err == nil {
		<-ctx.Done()
	}
	say(std, wordUnregistering, "")
	bye, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	closeErr := reg.CloseContext(bye) // unregisters
	if err != nil && ctx.Err() == nil {
		return err
	}
	time.Sleep(drain) // callers that have its URL from a look-up just before can still reach it
	return closeErr
}

func say(std cli.Streams, word, text string) {
	_, _ = fmt.Fprintln(std.Out, word, time.Now().UnixNano(), text)
}
