package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
)

// What is promised. A killed service is removed within its TTL and ofKill.
const (
	ofKill = time.Second            // after the TTL
	ofStop = 100 * time.Millisecond // from the beginning of its unregistering, the write included
	// From the beginning of its registering, or from the return of the connection.
	ofJoin = time.Second
)

// outage is how long the server is away, so that look-ups are seen to go on.
const outage = time.Second

// start starts the next service.
func (d *demonstration) start() (*process, error) {
	p, err := startService(serviceConfig{
		url: d.url, tenant: d.tenant, id: fmt.Sprintf("%s-%d", demoName, len(d.services)+1),
		ttl: d.cfg.ttl, verbose: d.cfg.verbose,
	}, d.std.Err)
	if err != nil {
		return nil, err
	}
	d.services = append(d.services, p)
	return p, nil
}

// beginWithThree starts three services, and waits until each was called a few times.
func (d *demonstration) beginWithThree(ctx context.Context) error {
	for range 3 {
		p, err := d.start()
		if err == nil {
			err = d.join(ctx, p)
		}
		if err != nil {
			return err
		}
	}
	d.startCalling()
	const some = 20
	all, err := poll(ctx, patience, func() bool {
		for _, p := range d.services {
			if d.client.tally(p.id).calls < some {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	d.line.promise(all, "not each of the three services was called %d times within %s", some,
		patience)
	d.line.say("calls", "each of the three was called at least %d times", some)
	return nil
}

// join waits until a service that was started has come.
func (d *demonstration) join(ctx context.Context, p *process) error {
	serving, err := p.await(ctx, wordServing)
	if err != nil {
		return err
	}
	registering, err := p.await(ctx, wordRegistering)
	if err != nil {
		return err
	}
	came, ok, err := d.awaitArrival(ctx, p, registering.at)
	if err != nil || !ok {
		return err
	}
	d.line.at(came, "came", "%s (pid %d, %s), %s after it began to register", p.id, p.pid(),
		serving.text, ms(came.Sub(registering.at)))
	return nil
}

// awaitArrival waits until look-ups have a service, which is promised within a limit after an
// event.
func (d *demonstration) awaitArrival(ctx context.Context, p *process,
	since time.Time) (came time.Time, ok bool, err error) {
	ok, err = poll(ctx, ofJoin+patience, func() (there bool) {
		came, there = d.seen.arrival(p.id)
		return there
	})
	if err != nil {
		return came, false, err
	}
	if !ok {
		d.line.promise(false, "%s did not come within %s, promised within %s", p.id,
			ms(ofJoin+patience), ms(ofJoin))
		return came, false, nil
	}
	d.line.within(came.Sub(since), ofJoin, p.id+" came")
	return came, true, nil
}

// awaitCall waits until a service that has come is called and answers.
func (d *demonstration) awaitCall(ctx context.Context, p *process, came time.Time) error {
	var first time.Time
	called, err := poll(ctx, ofJoin+patience, func() bool {
		first = d.client.tally(p.id).first
		return !first.IsZero()
	})
	if err != nil {
		return err
	}
	if !called {
		d.line.promise(false, "%s came and was not called within %s", p.id, ms(ofJoin+patience))
		return nil
	}
	d.line.within(first.Sub(came), ofJoin, p.id+" was called")
	d.line.at(first, "called", "%s, %s after it came", p.id, ms(first.Sub(came)))
	return nil
}

// awaitDeparture waits until look-ups no longer have a service, which is promised within a limit
// after an event.
func (d *demonstration) awaitDeparture(ctx context.Context, p *process, why kvregistry.Kind,
	cause string, since time.Time, limit time.Duration) error {
	var gone departure
	ok, err := poll(ctx, limit+patience, func() (isGone bool) {
		gone, isGone = d.seen.departed(p.id)
		return isGone
	})
	if err != nil {
		return err
	}
	if !ok {
		d.line.promise(false, "%s did not go within %s of %s, promised within %s", p.id,
			ms(limit+patience), cause, ms(limit))
		return nil
	}
	took := gone.at.Sub(since)
	d.line.at(gone.at, "went", "%s (%s), %s after %s, promised within %s; %d calls to it failed "+
		"until then",
		p.id, gone.why, ms(took), cause, ms(limit), len(d.client.tally(p.id).failed))
	d.line.within(took, limit, p.id+" went")
	d.line.promise(gone.why == why, "%s went as %s, promised was %s", p.id, gone.why, why)
	return nil
}

// killOne kills a service, which cannot unregister then.
func (d *demonstration) killOne(ctx context.Context) error {
	p := d.services[0]
	d.killed, d.killedAt = p.id, time.Now()
	if err := p.kill(); err != nil {
		return fmt.Errorf("can't kill %s: %w", p.id, err)
	}
	d.line.at(d.killedAt, "SIGKILL", "to %s", p.id)
	return d.awaitDeparture(ctx, p, kvregistry.Expired, "the kill", d.killedAt, d.cfg.ttl+ofKill)
}

// stopOne stops a service gracefully.
func (d *demonstration) stopOne(ctx context.Context) error {
	p := d.services[1]
	d.stopped = p.id
	d.line.say("SIGTERM", "to %s", p.id)
	if err := p.terminate(); err != nil {
		return fmt.Errorf("can't stop %s: %w", p.id, err)
	}
	unregistering, err := p.await(ctx, wordUnregistering)
	if err != nil {
		return err
	}
	if err := d.awaitDeparture(ctx, p, kvregistry.Unregistered, "it began to unregister",
		unregistering.at, ofStop); err != nil {
		return err
	}
	err = p.awaitEnd(ctx)
	if errors.Is(err, errInterrupted) {
		return err
	}
	d.line.promise(err == nil, "%s did not end well: %v", p.id, err)
	d.line.say("ended", "%s, %d calls to it failed", p.id, len(d.client.tally(p.id).failed))
	return nil
}

// addOne starts one more service.
func (d *demonstration) addOne(ctx context.Context) error {
	p, err := d.start()
	if err != nil {
		return err
	}
	if err := d.join(ctx, p); err != nil {
		return err
	}
	if came, ok := d.seen.arrival(p.id); ok {
		return d.awaitCall(ctx, p, came)
	}
	return nil
}

// restartServer stops the server and starts it again on its data. A service that is started while
// the server is away has to come when it is back, and for a TTL after that no service may go.
func (d *demonstration) restartServer(ctx context.Context) error {
	if d.server == nil {
		d.line.say("skipped", "the restart of the server: the one that --nats names is not the "+
			"demo's")
		return nil
	}
	back, stop := d.noteReturn()
	defer stop()
	before, _ := d.client.lookedUp()
	p, err := d.takeServerAway(ctx)
	if err != nil {
		return err
	}
	returned, err := d.awaitReturn(ctx, back)
	if err != nil {
		return err
	}
	after, _ := d.client.lookedUp()
	d.line.at(returned, "back", "the client's connection; it looked up %d times "+
		"meanwhile", after-before)
	came, ok, err := d.awaitArrival(ctx, p, returned)
	if err != nil {
		return err
	}
	if ok {
		d.line.at(came, "came", "%s (pid %d), %s after the client's connection was back", p.id,
			p.pid(), ms(came.Sub(returned)))
		if err := d.awaitCall(ctx, p, came); err != nil {
			return err
		}
	}
	return d.watchCalm(ctx, returned)
}

// takeServerAway restarts the server after an outage, and returns the service that was started
// meanwhile.
func (d *demonstration) takeServerAway(ctx context.Context) (*process, error) {
	began := time.Now()
	d.server.Stop()
	d.line.at(began, "stopped", "the server")
	p, err := d.start()
	if err != nil {
		return nil, err
	}
	serving, err := p.await(ctx, wordServing)
	if err != nil {
		return nil, err
	}
	d.line.at(serving.at, "started", "%s (pid %d, %s); it can't register yet", p.id,
		p.pid(), serving.text)
	if err := pause(ctx, time.Until(began.Add(outage))); err != nil {
		return nil, err
	}
	snapshot, err := d.reg.SnapshotContext(ctx, demoName)
	if err != nil {
		d.line.promise(false, "the look-up during the outage failed: %v", err)
	} else {
		d.line.say("outage", "look-ups give %d services; the server confirmed them last %s ago",
			snapshot.Len(), ms(snapshot.Age()))
	}
	if err := d.restart(); err != nil {
		return nil, fmt.Errorf("the server does not come back: %w", err)
	}
	d.line.say("started", "the server on its data, after %s", ms(time.Since(began)))
	return p, nil
}

// noteReturn notes when the client's connection comes up again; stop ends that.
func (d *demonstration) noteReturn() (back <-chan time.Time, stop func()) {
	up := d.nc.StatusChanged(nats.CONNECTED)
	noted := make(chan time.Time, 1)
	d.watching.Go(func() { // ends with the return or with stop; stopWatching waits
		if _, ok := <-up; ok {
			noted <- time.Now()
		}
	})
	return noted, func() { d.nc.RemoveStatusListener(up) }
}

// awaitReturn waits until the client's connection is back, and returns when that was.
func (d *demonstration) awaitReturn(ctx context.Context, back <-chan time.Time) (time.Time, error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case at := <-back:
		return at, nil
	case <-late.C:
		return time.Time{}, fmt.Errorf("the client's connection is not back %s after the "+
			"server", patience)
	case <-ctx.Done():
		return time.Time{}, errInterrupted
	}
}

// watchCalm waits for a time after an outage. A live service that goes by mistake does so when
// leases that could not be renewed are found to have run out. The end of the run judges what
// happened.
func (d *demonstration) watchCalm(ctx context.Context, since time.Time) error {
	if err := pause(ctx, time.Until(since.Add(d.cfg.ttl+ofKill))); err != nil {
		return err
	}
	d.line.say("calm", "for a TTL and a second, %d services went by mistake", len(d.unasked()))
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return errInterrupted
	}
}
