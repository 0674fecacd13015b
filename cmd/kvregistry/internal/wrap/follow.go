package wrap

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/kvregistry/go/kvregistry"
)

// follow returns when the program has ended, or has to end: for a signal, because it can't be
// registered, or because another process took its instance over.
func (r *running) follow() (sig os.Signal, failed error) {
	beat := time.Second
	if w := r.manager.watchdog; w > 0 {
		beat = min(beat, w/2)
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	var fenced <-chan struct{} // nil until the instance is registered
	for {
		select {
		case <-r.child.Done():
			return nil, nil
		case <-fenced:
			r.registered = false // nothing is left to drain
			return syscall.SIGTERM, takenOver(r.self)
		case err := <-r.registering:
			r.registering = nil
			if err != nil {
				return syscall.SIGTERM, err
			}
			r.registered, fenced = true, r.fenced
			r.manager.tell(daemon.SdNotifyReady, r.state())
		case sig := <-r.signals:
			if stops(sig) && !r.child.HasIt(sig) {
				return sig, nil
			}
			r.pass(sig)
		case <-tick.C:
			r.report()
		}
	}
}

// stops reports whether a signal asks a program to end.
func stops(sig os.Signal) bool {
	return sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT
}

// pass passes a signal on, unless the terminal has given it to the program.
func (r *running) pass(sig os.Signal) {
	if !r.child.HasIt(sig) {
		r.child.Signal(sig)
	}
}

// report tells systemd how things stand.
func (r *running) report() {
	if !r.registered {
		r.manager.tell(starting, r.state())
		return
	}
	r.manager.tell("", r.state())
	if r.verdict() != kvregistry.Critical {
		r.manager.alive()
	}
}

// state says in words how things stand.
func (r *running) state() string {
	text := fmt.Sprintf("not registered as %s/%s yet", r.self.Name, r.self.ID)
	if r.registered {
		text = fmt.Sprintf("registered as %s/%s, %s", r.self.Name, r.self.ID, r.verdict())
	}
	if !r.conn.IsConnected() {
		text += "; NATS is away"
	}
	return text
}

// verdict is the status by the checks.
func (r *running) verdict() kvregistry.Status {
	worst := kvregistry.Passing
	if r.runner == nil {
		return worst
	}
	for _, result := range r.runner.Results() {
		switch result.Status {
		case kvregistry.Critical:
			return kvregistry.Critical
		case kvregistry.Warning:
			worst = kvregistry.Warning
		}
	}
	return worst
}

// finish ends the program, if it has not ended, by a signal, and deregisters it. cancel ends a
// registration that is under way.
func (r *running) finish(cancel context.CancelFunc, sig os.Signal) {
	r.manager.tell(daemon.SdNotifyStopping, "stopping")
	cancel()
	if r.registering != nil {
		r.registered = <-r.registering == nil
	}
	ctx, kill := context.WithTimeout(context.Background(), r.grace)
	defer kill()
	go r.passAll(ctx, kill)
	ending := make(chan struct{})
	end := sync.OnceFunc(func() {
		close(ending)
		r.child.Stop(ctx, sig)
	})
	defer end()
	if !r.registered {
		return
	}
	defer context.AfterFunc(ctx, end)()
	// If NATS is away, the program has its time nevertheless.
	defer time.AfterFunc(max(r.settle, r.grace/2), end).Stop()
	r.drain(ctx, ending, end)
}

// passAll passes signals on until ctx ends. One that stops kills.
func (r *running) passAll(ctx context.Context, kill context.CancelFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-r.signals:
			if stops(sig) && !r.child.HasIt(sig) {
				kill()
				return
			}
			r.pass(sig)
		}
	}
}

// drain drains the instance, and calls end after the settle time. If the program ends before, the
// instance is deregistered at once.
func (r *running) drain(ctx context.Context, ending <-chan struct{}, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	select {
	case <-r.child.Done():
		cancel()
	default:
	}
	go func() { // ends when end is called, or with the program
		select {
		case <-ending:
		case <-r.child.Done():
			cancel()
		}
	}()
	err := r.reg.Drain(ctx, kvregistry.Only(r.self.Name, r.self.ID), kvregistry.Settle(r.settle),
		kvregistry.Until(func(context.Context) error {
			go end() // ends with the program and its group
			<-r.child.Done()
			return nil
		}))
	if err != nil && ctx.Err() == nil {
		r.log.Warn("kvregistry: the instance could not be drained", "cause", err)
	}
}
