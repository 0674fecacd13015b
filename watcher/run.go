package watcher

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/tenant"
)

const (
	startTime = time.Second     // bounds a session's begin: a lost server never makes the consumer
	settled   = 5 * time.Second // back-off starts over after a session of this length
)

// sessionCurve is the time between two sessions. It has jitter, so that many views that lost the
// same server do not come back at once.
var sessionCurve = backoff.Curve{Least: 20 * time.Millisecond, Most: time.Second}

// run makes one session after the other.
func (v *View) run() {
	up, stop := v.bucket.Reconnected()
	defer stop()
	level := 0
	for v.awaitWork() == nil {
		for len(up) > 0 { // this session starts on the connection as it is now
			<-up
		}
		began := time.Now()
		s := v.newSession(v.want())
		err := s.start(v.ctx, startTime<<min(level, 1), nil) // longer if the server may be far away
		if err == nil {
			v.toldGone = false
			err = s.run(v.ctx, up)
		}
		switch {
		case v.ctx.Err() != nil:
			return
		case errors.Is(err, errFilters), errors.Is(err, errNearer):
			continue
		case time.Since(began) > settled:
			level = 0
		}
		v.count(err)
		if made := v.ended(err); made {
			level = min(level, 1)
		}
		if errors.Is(err, tenant.ErrPermission) { // another connection may have other permissions
			_ = backoff.SleepOr(v.ctx, backoff.Jitter(tenant.RefusedTime), up)
			v.report(errAgain)
			continue
		}
		_ = backoff.Sleep(v.ctx, sessionCurve.Within(level))
		level++
	}
}

// causes are the words for why a session ended. The first that fits is the one.
var causes = []struct {
	err  error
	word string
}{
	{tenant.ErrPermission, "refused"}, {tenant.ErrBucketNotFound, "no bucket"},
	{tenant.ErrGap, "message lost"}, {errSilent, "silent"}, {errBehind, "behind"},
	{errRenewed, "reconnected"}, {errDown, "disconnected"}, {errRemoved, "keys removed"},
	{errOther, "recreated"}, {errRemade, "recreated"}, {errStale, "mirror stale"},
	{context.DeadlineExceeded, "no answer"}, {nats.ErrDisconnected, "disconnected"},
}

// count counts a session that ended.
func (v *View) count(why error) {
	word := "other"
	for _, c := range causes {
		if errors.Is(why, c.err) {
			word = c.word
			break
		}
	}
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	v.ends[word]++
}

// awaitWork returns when there is something to watch and a connection to do it on.
func (v *View) awaitWork() error {
	for !v.hasWork() {
		select {
		case <-v.ctx.Done():
			return v.ctx.Err()
		case <-v.widen:
		}
	}
	return v.bucket.AwaitConnected(v.ctx)
}

func (v *View) hasWork() bool {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	return len(v.wanted) > 0
}

// ended reports why a session ended, and does what may help. It returns whether it created the
// bucket.
func (v *View) ended(why error) (made bool) {
	told := why
	if errors.Is(why, tenant.ErrBucketNotFound) && v.cfg.Missing != nil {
		missing := v.cfg.Missing(v.ctx)
		made = missing == nil
		if errors.Is(missing, tenant.ErrPermission) {
			told = missing // which says what to do
		}
	}
	v.report(told)
	if told != why && !v.toldGone {
		v.toldGone = true
		v.cfg.Logger.Warn("kvregistry: the bucket is gone, and this user may not make it again",
			"cause", told)
	}
	if errors.Is(why, errSilent) || errors.Is(why, context.DeadlineExceeded) {
		if v.bucket.Revive(v.ctx, startTime/2) {
			v.cfg.Logger.Warn("kvregistry: the connection did not answer, connecting again",
				"cause", why)
		}
	}
	return made
}

// report logs the first failure after a good session, and keeps it for the callers that wait. The
// state of the connection is its owner's to log.
func (v *View) report(err error) {
	if errors.Is(err, errSilent) {
		err = v.bucket.Blame(err)
	}
	v.stateMu.Lock()
	down := errors.Is(err, errDown) || errors.Is(err, errRenewed) || !v.bucket.Connected()
	first := !v.told && !down
	v.told = v.told || first
	v.failure = err
	v.stateMu.Unlock()
	v.advance.Send()
	if first {
		v.cfg.Logger.Info("kvregistry: look-ups answer from memory, the bucket is being read again",
			"cause", err)
	}
}

// shownWhole notes that a whole snapshot was applied. The caller holds v.keysMu.
func (v *View) shownWhole() {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	if v.told {
		v.log(slog.LevelInfo, "kvregistry: look-ups are current again")
	}
	v.told, v.failure, v.doubted = false, nil, false
	v.applied = maps.Clone(v.shown)
	v.advance.Send()
}

// log logs a line while locks are held: a handler may call back.
func (v *View) log(level slog.Level, line string) {
	v.wg.Go(func() { v.cfg.Logger.Log(context.WithoutCancel(v.ctx), level, line) }) // Close waits
}

// forget deletes the consumer of a feed. If that fails, as when its server is down, the server ends
// it after a while.
func (v *View) forget(feed *tenant.Feed) {
	if feed == nil || !v.bucket.Connected() {
		return
	}
	v.wg.Go(func() { // ends within startTime; Close waits
		ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), startTime)
		defer cancel()
		_ = feed.Delete(ctx)
	})
}
