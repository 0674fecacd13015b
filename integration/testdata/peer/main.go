// Command peer is one process of a tenant whose processes are of two versions. The test builds it
// once with each version, so it uses only the API that both have.
//
// It prints "ready" when its instances are registered. Each further line is JSON: an event, or the
// answer to the command "list" on the standard input. It closes the registry when the input ends.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
)

// report is one line of the output. It has either an event or a list.
type report struct {
	Kind    string   `json:"kind,omitempty"`
	Service string   `json:"service,omitempty"`
	ID      string   `json:"id,omitempty"`
	List    []string `json:"list,omitempty"` // the instances in the cache, as service/id
	Err     string   `json:"err,omitempty"`  // why there is no list
}

// out writes whole lines, from any number of goroutines.
var out = log.New(os.Stdout, "", 0)

func main() {
	if err := run(); err != nil {
		out.Println("failed", err)
		os.Exit(1)
	}
}

func run() error {
	url := flag.String("url", nats.DefaultURL, "connect to this server")
	tenant := flag.String("tenant", kvregistry.DefaultTenant, "join this tenant")
	ttl := flag.Duration("ttl", kvregistry.DefaultTTL, "take a lease of this length")
	wait := flag.Duration("wait", 50*time.Millisecond, "reconnect after so long")
	observe := flag.Bool("observe", false, "observe every service and print its events")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: peer [flags] service/id ...")
		flag.PrintDefaults()
	}
	flag.Parse()

	nc, err := nats.Connect(*url, nats.MaxReconnects(-1),
		nats.ReconnectWait(*wait),
		nats.ReconnectJitter(10*time.Millisecond, 10*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // the default one prints
	if err != nil {
		return err
	}
	defer nc.Close()
	reg, err := kvregistry.New(context.Background(), nc, kvregistry.Tenant(*tenant),
		kvregistry.TTL(*ttl), kvregistry.Logger(slog.New(slog.DiscardHandler)),
		kvregistry.OnEvent(func(e kvregistry.Event) {
			say(report{Kind: string(e.Kind), Service: e.Service.Name, ID: e.Service.ID})
		}))
	if err != nil {
		return err
	}
	for _, instance := range flag.Args() {
		service, id, _ := strings.Cut(instance, "/")
		s := kvregistry.Service{Name: service, ID: id, Address: "127.0.0.1:1"}
		if _, err := reg.Register(s); err != nil {
			return err
		}
	}
	out.Println("ready")
	if *observe {
		if err := reg.Observe(kvregistry.Everything); err != nil {
			return err
		}
	}
	for commands := bufio.NewScanner(os.Stdin); commands.Scan(); {
		if commands.Text() == "list" {
			say(list(reg))
		}
	}
	if err := reg.Close(); err != nil {
		return err
	}
	out.Println("closed")
	return nil
}

// say writes a report as one line.
func say(r report) {
	line, err := json.Marshal(r)
	if err != nil {
		panic(err) // a report is strings
	}
	out.Printf("%s", line)
}

// list reads every instance of the tenant from the registry's cache.
func list(reg *kvregistry.Registry) report {
	names, err := reg.ServiceNames()
	if err != nil {
		return report{Err: err.Error()}
	}
	var r report
	for _, name := range names {
		snap, err := reg.Snapshot(name)
		if err != nil {
			return report{Err: err.Error()}
		}
		for s := range snap.All() {
			r.List = append(r.List, name+"/"+s.ID)
		}
	}
	return r
}
