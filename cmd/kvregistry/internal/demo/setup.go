package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/cmd/kvregistry/internal/natsserver"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// demonstration is one run of the demo.
type demonstration struct {
	cfg    demoConfig
	std    cli.Streams
	tenant string
	line   timeline

	server *natsserver.Server // nil with --nats
	store  string             // of the demo's own server
	url    string
	nc     *nats.Conn

	reg       *kvregistry.Registry
	seen      *roster
	client    *caller
	watching  sync.WaitGroup // the goroutines of seen and client
	endEvents context.CancelFunc
	endCalls  context.CancelFunc

	services []*process // every one that was started
	killed   string
	killedAt time.Time
	stopped  string
}

// setUp starts the server, if it is the demo's, and the client.
func (d *demonstration) setUp(ctx context.Context) error {
	d.url = d.cfg.nats
	if d.url == "" {
		if err := d.startServer(); err != nil {
			return err
		}
	}
	log := cli.Logger(d.cfg.verbose, d.std.Err).With("id", "client")
	var err error
	if d.nc, err = connect(d.url, "kvregistry demo", false, log); err != nil {
		return fmt.Errorf("can't connect to NATS: %w; check --nats, or leave it out for a server "+
			"of the demo's own", err)
	}
	// Not the URL, whose user may be a token.
	d.line.say("server", "%s, tenant %s, TTL %s", d.nc.ConnectedAddr(), d.tenant, d.cfg.ttl)
	if d.reg, err = kvregistry.New(ctx, d.nc, registryOptions(d.tenant, d.cfg.ttl,
		log)...); err != nil {
		return err
	}
	return d.startWatching()
}

// startServer starts a server with a store of its own on a free port.
func (d *demonstration) startServer() (err error) {
	if d.store, err = os.MkdirTemp("", "kvregistry-demo-"); err != nil {
		return err
	}
	if d.server, err = natsserver.Start(d.serverConfig(0)); err != nil {
		return err
	}
	d.url = d.server.URL()
	return nil
}

// restart starts the server, which is stopped, on its data and its port.
func (d *demonstration) restart() error {
	s, err := natsserver.Start(d.serverConfig(d.server.Port()))
	if err != nil {
		return err
	}
	d.server = s
	return nil
}

func (d *demonstration) serverConfig(port int) natsserver.Config {
	cfg := natsserver.Config{Store: d.store, Host: "127.0.0.1", Port: port,
		Warnings: io.Discard}
	if d.cfg.verbose {
		cfg.Warnings = d.std.Err
	}
	return cfg
}

// startWatching notes the changes of the client's look-ups from now on.
func (d *demonstration) startWatching() error {
	d.seen = newRoster(d.reg)
	d.client = newCaller(d.reg, d.seen)
	ctx, cancel := context.WithCancel(context.Background())
	events, err := d.reg.Watch(ctx, demoName)
	if err != nil {
		cancel()
		return err
	}
	d.endEvents = cancel
	d.watching.Go(func() { d.seen.follow(events) }) // ends with endEvents; stopWatching waits
	return nil
}

// startCalling makes the client call from now on.
func (d *demonstration) startCalling() {
	ctx, cancel := context.WithCancel(context.Background())
	d.endCalls = cancel
	d.watching.Go(func() { d.client.run(ctx) }) // ends with endCalls; stopWatching waits
}

// stopWatching ends the calls and the notes. It may be called again.
func (d *demonstration) stopWatching() {
	for _, end := range []context.CancelFunc{d.endCalls, d.endEvents} {
		if end != nil {
			end()
		}
	}
	d.watching.Wait()
}

// tearDown removes everything, however far the run came.
func (d *demonstration) tearDown() (err error) {
	d.stopWatching()
	end(d.services) // before the bucket is deleted: a service that lives would recreate it
	if d.reg != nil {
		err = d.reg.Close()
	}
	if d.nc != nil {
		if d.server == nil {
			err = errors.Join(err, d.deleteBucket())
		}
		d.nc.Close()
	}
	if d.server != nil {
		d.server.Stop()
	}
	if d.store != "" {
		err = errors.Join(err, os.RemoveAll(d.store))
	}
	return err
}

// deleteBucket deletes the bucket of the demo's tenant from a server that is not the demo's own.
func (d *demonstration) deleteBucket() error {
	bucket, err := tenant.BucketName(d.tenant)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	js, err := jetstream.New(d.nc)
	if err == nil {
		err = js.DeleteKeyValue(ctx, bucket)
	}
	if err != nil && !errors.Is(err, jetstream.ErrBucketNotFound) {
		return fmt.Errorf("bucket %s is left on the server, delete it with \"nats kv del %s\": %w",
			bucket, bucket, err)
	}
	return nil
}
