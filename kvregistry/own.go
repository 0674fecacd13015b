package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/kvregistry/internal/claim"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

type (
	registration = claim.Registration[Service]
	claimed      = claim.Claim[Service]
	declaration  = claim.Declaration[Service]
)

// owned is what a registry has registered: it brings calls to the registry's owner, and tells the
// owner what it asks. See [claim.Registry].
type owned struct {
	r        *Registry
	refusals refusals
}

// newOwner makes the owner of what a registry declares.
func newOwner(r *Registry) *claim.Owner[Service] {
	r.owned = &owned{r: r, refusals: refusals{of: map[string]refusal{}}}
	return claim.NewOwner(claim.Config[Service]{
		Bucket: r.bucket, Registry: r.owned, Same: (*Service).same, Signs: r.opt.signer != nil,
		Check: r.opt.checkTime(),
	})
}

func (w *owned) Lease() string {
	if l := w.r.keeper.Current(); l != nil {
		return l.ID
	}
	return ""
}

// AwaitLease asks for room for a registration before a lease is taken for it, which is a key too
// and would stay for a while.
func (w *owned) AwaitLease(ctx context.Context, key string, want *Service) error {
	if w.r.closed.Load() {
		return ErrClosed
	}
	if err := w.r.awaitReady(ctx); err != nil {
		return err
	}
	if err := w.admit(ctx, key, want); err != nil {
		return err
	}
	_, err := w.r.keeper.Lease(ctx)
	return err
}

// admit asks for room for a registration if there is no lease yet.
func (w *owned) admit(ctx context.Context, key string, want *Service) error {
	if w.r.keeper.Current() != nil {
		return nil
	}
	value, err := encode(w.unsigned(), *want, w.r.opt.bounds.record)
	if err != nil {
		return err
	}
	return w.r.bucket.Room(ctx, key, len(value))
}

func (w *owned) StartLease(ctx context.Context, key string, want *Service) error {
	if ready, _ := w.r.state(); !ready {
		return errUnchecked
	}
	err := w.admit(ctx, key, want)
	if err == nil {
		w.r.keeper.Start()
	}
	return err
}

// Read reads a value that may be longer than this registry's MaxRecord, because a newer owner's may
// be larger. What is longer than any MaxRecord is no registration, and is not decoded.
func (w *owned) Read(key string, e tenant.Entry) claim.Kind {
	s := w.r.sightUpTo(watcher.Change{Key: key, Value: e.Value, Revision: e.Revision, Op: e.Op},
		min(len(e.Value), largestRecord))
	switch {
	case e.Revision == 0, e.Op != tenant.Put:
		return claim.Nothing
	case s.err == nil && s.rec.Owner == w.r.id:
		return claim.Own
	case s.taken():
		return claim.Other
	}
	return claim.Junk
}

// taken reports whether a key's value is a registration, perhaps one of a newer format.
func (s *sighting) taken() bool { return s.err == nil || s.rec.Format > wire.Format }

// see gives the owner what the view saw.
func (w *owned) see(seen []*sighting, snapshot *watcher.Snapshot) {
	var own []claim.Sight
	var upTo uint64
	for _, s := range seen {
		upTo = max(upTo, s.Revision)
		if w.r.own.Has(s.Key) {
			own = append(own, claim.Sight{Key: s.Key, Revision: s.Revision,
				Gone: s.Op != tenant.Put, TooLong: s.Long > largestRecord})
		}
	}
	whole := snapshot != nil && !snapshot.Part // a part may be older than its session
	if whole {
		upTo = max(upTo, snapshot.UpTo)
	}
	w.r.own.See(own, upTo, whole, whole && snapshot.Reset)
}

func (w *owned) Lacks(key string) bool {
	age := w.r.age()
	return age >= 0 && age <= w.r.opt.currentAge() && w.r.view.Lacks(key)
}

func (w *owned) Shows(want *Service) bool {
	svc := w.r.cache.find(want.Name)
	return svc != nil && svc.snap.Load() != nil
}

func (w *owned) Forget(key string) {
	w.r.view.Unwatch(key)
	if w.r.own.Has(key) { // it was declared again meanwhile
		w.r.view.WatchSoon(key)
	}
}

// Report logs what no call tells of.
func (w *owned) Report(results []claim.Result[Service]) {
	var written, refused []*registration
	var why error
	for _, res := range results {
		if !res.Waited {
			written = append(written, res.Of)
		}
		if res.Missing {
			w.r.log.Warn("kvregistry: a registration was found to be missing, writing it again",
				"service", journal.Plain(res.Want.Name), "instance", journal.Plain(res.Want.ID))
		}
		switch {
		case res.Err == nil:
			w.refusals.forgive(res.Want.Name)
		case errors.Is(res.Err, ErrFenced):
			w.r.tellFenced(res.Want)
		case refuses(res.Err):
			if w.refusals.note(res.Want, res.Err, res.Acked) && !res.Waited {
				refused, why = append(refused, res.Of), res.Err
			}
		}
	}
	w.tellNewsLater(written)
	if len(refused) > 0 {
		args := append(subject(refused), "cause", journal.Plain(why.Error()))
		w.r.log.Warn("kvregistry: the server refuses what this process registers, asking again",
			args...)
	}
}

// refusals are why registrations are refused, by service.
type refusals struct {
	mu sync.Mutex // guards of
	of map[string]refusal
}

type refusal struct {
	why   error
	acked bool // the registration was acknowledged before
}

// mostRefused is how many services are known whose registration was refused.
const mostRefused = 64

// note notes a refusal, and reports whether it is the first one of its service.
func (f *refusals) note(s Service, why error, acked bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, known := f.of[s.Name]
	if known || len(f.of) == mostRefused {
		return false
	}
	f.of[s.Name] = refusal{fmt.Errorf("register %q of service %q: %w", s.ID, s.Name, why), acked}
	return true
}

// forgive forgets that registrations of a service were refused.
func (f *refusals) forgive(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.of, name)
}

// first is why a registration was refused that was never acknowledged: that of the first service by
// name.
func (f *refusals) first() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(f.of)) {
		if r := f.of[name]; !r.acked {
			return r.why
		}
	}
	return nil
}

// refusal is why a registration was refused that was never acknowledged, or why there is no lease
// for one that waits for it.
func (w *owned) refusal() error {
	if err := w.refusals.first(); err != nil {
		return err
	}
	failure := w.r.keeper.Failure()
	if !refuses(failure) {
		return nil
	}
	waits := false
	w.r.own.Each(func(_ Service, _ uint64, acked bool) { waits = waits || !acked })
	if !waits {
		return nil
	}
	return failure
}
