// Package demo has the command that shows what the registry does while services come, go and crash.
package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/lease"
	"github.com/spf13/cobra"
)

const about = `kvregistry demo starts a NATS server and three HTTP services, each a process
of its own, and calls them all the time by way of the registry. Then one service is killed, one is
stopped, a new one comes, and the server is restarted with its data. It prints what happens and
when, checks that each change was seen as soon as promised, and exits with 0 only if every promise
was kept. It takes about twice the TTL and some seconds.`

// demoName is the name of the service that is looked up.
const demoName = "httptest"

var errInterrupted = errors.New("interrupted")

type demoConfig struct {
	nats    string
	ttl     time.Duration
	verbose bool
}

// Command is "kvregistry demo".
func Command(std cli.Streams) *cobra.Command {
	var cfg demoConfig
	c := &cobra.Command{
		Use: "demo", Short: "show services that come, go, crash and are called all the time",
		Long: about, Args: cli.Args(),
		RunE: func(c *cobra.Command, _ []string) error { return run(c.Context(), cfg, std) },
	}
	fs := c.Flags()
	fs.StringVar(&cfg.nats, "nats", "", "`URL` of a server to use in place of one of the demo's "+
		"own; it is not restarted")
	fs.DurationVar(&cfg.ttl, "ttl", 3*time.Second, "the services' lease, whole seconds from 2s "+
		"to 24h")
	fs.BoolVar(&cfg.verbose, "verbose", false, "log to standard error what the registries and "+
		"the server say")
	return c
}

// run runs the demonstration.
func run(ctx context.Context, cfg demoConfig, std cli.Streams) error {
	if err := lease.CheckTTL(cfg.ttl); err != nil {
		return cli.Usagef("--ttl %s is invalid: use whole seconds from %s to %s", cfg.ttl,
			lease.MinTTL, lease.MaxTTL)
	}
	ctx, stop := cli.UntilSignal(ctx)
	defer stop()
	d := &demonstration{cfg: cfg, std: std, tenant: "demo-" + strings.ToLower(rand.Text()[:10])}
	d.line.out, d.line.began = std.Out, time.Now()
	return errors.Join(d.run(ctx), d.tearDown())
}

// run takes the steps, and returns the error that ended them early, or that a promise was broken.
func (d *demonstration) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.setUp, d.beginWithThree, d.killOne, d.stopOne, d.addOne, d.restartServer,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return d.judge()
}

// judge checks everything that was noted, prints the calls, and returns an error if a promise was
// broken.
func (d *demonstration) judge() error {
	d.stopWatching()
	d.line.never(d.unasked())
	d.line.never(d.seen.faults())
	lookups, wrongs := d.client.lookedUp()
	d.line.never(wrongs)
	d.line.say("look-ups", "%d by the client, %d of them wrong", lookups, len(wrongs))
	for _, p := range d.services {
		d.line.say("calls", "%s", d.accounts(p))
	}
	if n := len(d.line.broken); n > 0 {
		return fmt.Errorf("of %d promises %d were broken: %s", n+d.line.kept, n,
			strings.Join(d.line.broken, "; "))
	}
	d.line.say("kept", "all %d promises", d.line.kept)
	return nil
}

// unasked returns the departures of services that live.
func (d *demonstration) unasked() (list []string) {
	for _, p := range d.services {
		if gone, ok := d.seen.departed(p.id); ok && p.id != d.killed && p.id != d.stopped {
			list = append(list, fmt.Sprintf("%s went from look-ups (%s) at %.3f s, though nobody "+
				"stopped it",
				p.id, gone.why, gone.at.Sub(d.line.began).Seconds()))
		}
	}
	return list
}

// accounts checks that no call failed except those to the killed service after its end, and prints
// how many calls went to each service.
func (d *demonstration) accounts(p *process) string {
	t := d.client.tally(p.id)
	var reasons, unexpected []string
	number := map[string]int{}
	for _, f := range t.failed {
		if number[f.why]++; number[f.why] == 1 {
			reasons = append(reasons, f.why)
		}
		if p.id != d.killed || f.at.Before(d.killedAt) {
			unexpected = append(unexpected, fmt.Sprintf("a call to %s failed at %.3f s: %s", p.id,
				f.at.Sub(d.line.began).Seconds(), f.why))
		}
	}
	d.line.never(unexpected)
	text := fmt.Sprintf("%s  %4d, %d failed", p.id, t.calls, len(t.failed))
	for _, why := range reasons {
		text += fmt.Sprintf(", %d of them: %s", number[why], why)
	}
	if p.id == d.killed && unexpected == nil {
		text += "; as expected, between its end and its removal"
	}
	return text
}
