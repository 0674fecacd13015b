package watcher

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/tenant"
)

// source is what a session reads: the bucket itself, by its leader or another replica, or a mirror
// near by. It is chosen when the session begins, and never changes.
type source struct {
	created  time.Time // of the bucket: it tells one life from the next
	leader   uint64    // the leader's last revision when the session began
	first    uint64    // the leader's first revision then: older ones were purged by hand
	last     uint64    // the last revision of what is read then
	replicas int
	mirror   bool
	heard    time.Time // when a mirror heard of its hub; zero if that is not known
}

// lags reports whether what is read may be behind the leader.
func (s source) lags() bool { return s.mirror || s.replicas > 1 }

// asOf is when a snapshot that is complete now was current. A mirror only knows what its hub said.
func (s source) asOf() time.Time {
	if s.mirror {
		return s.heard
	}
	return time.Now()
}

// lastOf asks what is read for the revision of the last change under some filters.
func (s source) lastOf(ctx context.Context, b *tenant.Bucket, fs filters) (uint64, error) {
	if s.mirror {
		return lastOf(ctx, fs, b.LastNear)
	}
	return lastOf(ctx, fs, b.Last)
}

// look asks how the leader stands and, if mirrorToo is set, first how a mirror does: what that has,
// the leader has. A reaper reads no mirror. mirror is nil if there is none.
func (v *View) look(ctx context.Context,
	mirrorToo bool) (mirror *tenant.Mirror, leader tenant.State, err error) {
	if mirrorToo && !v.cfg.Follow {
		mirror = v.bucket.Mirror(ctx)
	}
	if mirror != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTime/2)
		defer cancel()
	}
	leader, err = v.bucket.State(ctx)
	return mirror, leader, err
}

// choose returns what a session for some filters reads once ready has returned, and up to which
// revision it must read. It is a mirror if the leader confirms that the mirror is of the same
// bucket and the mirror hears of it, or while the hub is away. A session beside another reads the
// leader.
func (v *View) choose(ctx context.Context, fs filters, beside bool,
	ready func(context.Context) error) (from source, need uint64, err error) {
	readied := make(chan error, 1)
	if ready == nil {
		readied <- nil
	} else {
		v.wg.Go(func() { readied <- ready(ctx) }) // ends with ctx; Close waits
	}
	began := time.Now()
	mirror, leader, err := v.look(ctx, !beside)
	switch away := mirror != nil && ctx.Err() == nil && v.bucket.HubAway(err); {
	case away && !v.knows(mirror.Of):
		return from, 0, fmt.Errorf("%w, and the hub is away: %w", errOther, err)
	case away:
		from = source{created: mirror.Of, leader: mirror.Last, last: mirror.Last, replicas: 1,
			mirror: true, heard: mirror.Heard}
		need, _ = v.floor(from, fs)
		return from, need, nil
	case err != nil:
		return from, 0, err
	}
	from = source{created: leader.Created, leader: leader.Last, first: leader.First,
		last: leader.Last, replicas: leader.Replicas}
	if v.usable(mirror, leader) {
		from.mirror, from.last, from.heard = true, mirror.Last, began
	}
	switch {
	case beside && !v.knows(from.created):
		return from, 0, errRemade
	case v.outdated(from):
		return from, 0, fmt.Errorf("%w: its leader is at %d", errBehind, from.leader)
	}
	if err := <-readied; err != nil {
		return from, 0, err
	}
	need, err = v.need(ctx, from, fs) // a replica that has what was written before readied
	return from, need, err
}

// knows reports whether the view has seen no other bucket than the one that was created at a time.
func (v *View) knows(created time.Time) bool {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	return v.source.created.IsZero() || v.source.created.Equal(created)
}

// usable reports whether a mirror may be read in place of the leader, which was asked after it. A
// mirror that is ahead of its leader has what the hub lost.
func (v *View) usable(mirror *tenant.Mirror, leader tenant.State) bool {
	if mirror == nil {
		return false
	}
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	strayed := !mirror.Of.Equal(leader.Created) || mirror.Last > leader.Last
	if strayed && !v.strayed {
		v.log(slog.LevelWarn, "kvregistry: the mirror is of a bucket that is no more, reading "+
			"from the hub; recreate it")
	}
	v.strayed = strayed
	return !strayed && !v.doubted && mirror.Fresh()
}

// confirm notes a sign of life of what is read: a complete snapshot of the bucket is current. What
// a mirror hears, tend sees to.
func (s *session) confirm() {
	if s.complete && !s.source.mirror {
		s.view.confirm(time.Now())
	}
}

// tend confirms how old the view of a mirror is. It ends the session if the mirror does not hear of
// the hub, and the hub answers.
func (s *session) tend(ctx context.Context) {
	for s.source.mirror && backoff.Sleep(ctx, s.view.cfg.Heartbeat) == nil {
		ask, cancel := context.WithTimeout(ctx, startTime)
		mirror := s.view.bucket.Mirror(ask)
		fresh, err := mirror != nil && mirror.Fresh(), error(nil)
		if !fresh {
			_, err = s.view.bucket.State(ask)
		}
		cancel()
		switch {
		case err != nil:
		case !fresh:
			s.end(errStale)
			return
		case mirror.Lag == 0 && s.isComplete():
			s.view.confirm(mirror.Heard)
		}
	}
}
