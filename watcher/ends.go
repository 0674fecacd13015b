package watcher

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/tenant"
)

// lagLook is the time between two looks at whether a replica lags behind.
const lagLook = 500 * time.Millisecond

// silence is how long a server may say nothing before its consumer is in doubt.
func silence(heartbeat time.Duration) time.Duration { return 2*heartbeat + heartbeat/4 }

// run holds the session until something ends it, and returns what that was. It ends the feed.
func (s *session) run(ctx context.Context, up <-chan nats.Status) error {
	v := s.view
	ctx, cancel := context.WithCancel(ctx)
	var widening chan error
	defer func() {
		cancel()
		if widening != nil {
			<-widening
		}
		s.end(nil)
		s.feed.Close()
		v.forget(s.feed)
	}()
	v.wg.Go(func() { s.listen(ctx) }) // this and what follows ends with ctx; Close waits
	if s.beside {
		return s.await(ctx)
	}
	v.wg.Go(func() { s.check(ctx) })
	v.wg.Go(func() { s.tend(ctx) })
	whole, again := s.whole, (chan struct{})(nil) // nil until the snapshot is whole
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case why := <-s.ended:
			return why
		case <-up:
			return errRenewed
		case <-again:
			return errFilters
		case <-v.widen:
		case <-whole:
			whole, again = nil, v.again
		case err := <-widening:
			if widening = nil; err != nil { // a new session reads all at once
				return errFilters
			}
		}
		if whole != nil || widening != nil {
			continue
		}
		if narrow := v.narrow.Swap(false); v.covered(s.reads) && !narrow {
			continue
		}
		added, wanted := v.takeAdded()
		switch {
		case len(added) == 0 && len(wanted) > 0 && maps.Equal(v.reads(wanted), s.reads):
			continue // nothing is sent that another filter does not cover
		case s.source.mirror, len(wanted) == 0:
			return errFilters
		}
		done := make(chan error, 1)
		widening = done
		v.wg.Go(func() { done <- s.widen(ctx, added, wanted) })
	}
}

// await returns when the snapshot of a session beside another is whole, or the session ends.
func (s *session) await(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case why := <-s.ended:
		return why
	case <-s.whole:
		return nil
	}
}

// listen ends the session when the connection is down or the server is silent. A sign of life may
// wait behind a long queue of other messages: the server is silent only if it is not among them.
func (s *session) listen(ctx context.Context) {
	v, most := s.view, silence(s.view.cfg.Heartbeat)
	for wait := v.cfg.Heartbeat / 2; backoff.Sleep(ctx, wait) == nil; {
		quiet := s.feed.Quiet()
		switch {
		case !v.bucket.Connected():
			s.end(errDown)
			return
		case quiet < most:
			wait = min(v.cfg.Heartbeat/2, most-quiet)
			continue
		}
		probe, cancel := context.WithTimeout(ctx, v.cfg.Patience)
		err := v.bucket.Probe(probe)
		cancel()
		if quiet = s.feed.Quiet(); err != nil || quiet >= most && !s.feed.Queued() {
			s.end(fmt.Errorf("%w for %s", errSilent, quiet.Round(time.Millisecond)))
			return
		}
		wait = max(most-quiet, v.cfg.Heartbeat)
	}
}

// check asks the leader at once, and then now and then, how things stand. It ends the session if
// the session can't see by itself that it should end.
func (s *session) check(ctx context.Context) {
	for first := true; first || backoff.Sleep(ctx, s.view.cfg.Check) == nil; first = false {
		ask, cancel := context.WithTimeout(ctx, startTime)
		// the session has left that mirror
		mirror, leader, err := s.view.look(ask, !first && !s.source.mirror)
		cancel()
		if err != nil {
			continue
		}
		why := s.judge(ctx, leader)
		if why == nil && s.view.usable(mirror, leader) && mirror.Lag == 0 {
			why = errNearer
		}
		if why != nil {
			s.end(why)
			return
		}
	}
}

// judge compares the session with what the leader says. A replica that was cut off from the others,
// or does not catch up, gives signs of life like any other, but they do not come as far as the
// leader has been. Keys that were removed without a message are below the leader's first revision.
// What is under way explains either, so a moment is left to it.
func (s *session) judge(ctx context.Context, leader tenant.State) error {
	from := s.source
	from.replicas = leader.Replicas // they may have been changed
	behind := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return from.lags() && s.horizon < leader.Last
	}
	removed := func() bool { return s.view.removed(leader.First) }
	switch {
	// the consumer is of this bucket, and the session of the one before
	case !leader.Created.Equal(s.source.created):
		return errRemade
	case !s.isComplete(): // what comes yet explains all else
		return nil
	case !removed():
	case backoff.Sleep(ctx, s.view.cfg.Heartbeat) != nil:
		return nil
	case removed() && !behind():
		return errRemoved
	}
	for end := time.Now().Add(max(lagTime, s.view.cfg.Heartbeat*5/4)); time.Now().Before(end); {
		if !behind() || backoff.Sleep(ctx, lagLook) != nil {
			return nil
		}
	}
	s.view.distrust()
	return errBehind
}
