package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/kvregistry/internal/plist"
	"github.com/kvregistry/go/kvregistry/internal/snapfile"
)

const saveTime = 5 * time.Second // between two looks at whether there is something to save

// saved is what the snapshot file has of a service.
type saved = snapfile.Service[Service]

// archive keeps what a registry observes in a snapshot file, and has what the run before left
// there. A nil archive has nothing. Only old, knows and stale may be called by any number of
// goroutines.
type archive struct {
	path, tenant string
	most         time.Duration
	log          *slog.Logger
	past         map[string]*Snapshot         // of the run before; never changes
	signed       map[string]map[string]string // of past, by service and id; never changes
	all          *Catalog                     // past, if it is everything; never changes

	wrote   time.Time            // when the file was last written,
	written map[string]*Snapshot // and what of
	failing bool                 // it could not be written, and the log says so
}

// openArchive reads what the run before left. Another tenant's file is an error, because this one
// would take its place.
func openArchive(o *options, log *slog.Logger) (*archive, error) {
	a := &archive{
		path: o.file, tenant: o.tenant, most: o.fileAge, log: log,
		past: map[string]*Snapshot{}, signed: map[string]map[string]string{},
	}
	content, err := snapfile.Read[Service](o.file, o.tenant)
	switch {
	case errors.Is(err, snapfile.ErrTenant):
		return nil, fmt.Errorf("%w: SnapshotFile(%q): %w; name a file for each tenant",
			ErrInvalidOption, o.file, err)
	case err != nil:
		log.Warn("kvregistry: the snapshot file is not used", "path", journal.Plain(o.file),
			"cause", err)
	}
	for name, s := range content.Services {
		if !snapfile.Fresh(s.At, a.most) {
			continue
		}
		if snap, signed := snapshotOf(s, name, o.signersOf(name)); snap != nil {
			a.past[name], a.signed[name] = snap, signed
		}
	}
	if !content.Everything.IsZero() {
		a.all = catalogOf(a.past, content.Everything)
	}
	return a, nil
}

// catalogOf is the catalog of what was saved when everything was observed.
func catalogOf(services map[string]*Snapshot, at time.Time) *Catalog {
	c := &Catalog{list: plist.New(snapshotKind), version: version{saved: at}}
	for _, snap := range services {
		c.list = c.list.With(1, snap)
		c.revision = max(c.revision, snap.revision)
	}
	c.list.Seal(1)
	return c
}

// snapshotOf is what was saved and who signed it, except what is no instance of the service, or is
// signed by none of the trusted, if there are any; nil if nothing is left.
func snapshotOf(s saved, name string, trusted []string) (*Snapshot, map[string]string) {
	list, signed, last := noInstances, map[string]string{}, uint64(0)
	for i := range s.Instances {
		one := s.Instances[i].Instance
		if one.Name != name || one.check() != nil || list.Find(one.ID) != nil {
			continue
		}
		if signer := s.Instances[i].Signer; trusted != nil && !slices.Contains(trusted, signer) {
			continue
		} else if signer != "" {
			signed[one.ID] = signer
		}
		one.Revision = s.Instances[i].Revision
		one.Owner, one.Lease = s.Instances[i].Owner, s.Instances[i].Lease
		last = max(last, one.Revision)
		list = list.With(1, one.compact(name))
	}
	list.Seal(1)
	if list.Count(every) == 0 {
		return nil, nil
	}
	return newSnapshot(name, list, version{revision: last, saved: s.At}), signed
}

// knows reports whether the run before left anything.
func (a *archive) knows() bool { return a != nil && len(a.past) > 0 }

// old is the snapshot of a service that the run before left; nil if there is none, or it is too
// old.
func (a *archive) old(name string) *Snapshot {
	if a == nil {
		return nil
	}
	if s := a.past[name]; s != nil && snapfile.Fresh(s.saved, a.most) {
		return s
	}
	return nil
}

// everything is the catalog that the run before left; nil if it did not observe everything, or left
// it too long ago.
func (a *archive) everything() *Catalog {
	if a == nil || a.all == nil || !snapfile.Fresh(a.all.saved, a.most) {
		return nil
	}
	return a.all
}

// stale are those of the names whose look-ups the file would answer.
func (a *archive) stale(unread []string) []string {
	return slices.DeleteFunc(slices.Clone(unread), func(name string) bool {
		if name == Everything {
			return a.everything() == nil
		}
		return a.old(name) == nil
	})
}

// keep saves what a cache holds now and then, until ctx ends.
func (a *archive) keep(ctx context.Context, c *cache) {
	t := time.NewTicker(saveTime)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			a.save(c)
		case <-ctx.Done():
			return
		}
	}
}

// save writes the file if something changed since, or if the file says for too long that nothing
// did.
func (a *archive) save(c *cache) {
	if c.view.Heard().IsZero() { // nothing was read yet
		return
	}
	now := a.current(c)
	if maps.Equal(now, a.written) && time.Since(a.wrote) < a.most/24 {
		return
	}
	content := snapfile.Content[Service]{Tenant: a.tenant, Services: map[string]saved{}}
	if all := c.catalog.Load(); all != nil {
		content.Everything = time.Now().Add(-all.Age())
	} else if old := a.everything(); old != nil {
		content.Everything = old.saved
	}
	for name, snap := range now {
		signed := a.signed[name]
		if svc := c.find(name); svc != nil && !snap.Stale() {
			snap, signed = c.signed(svc)
		}
		content.Services[name] = savedOf(snap, signed)
	}
	err := snapfile.Write(a.path, content)
	switch {
	case err == nil:
		a.wrote, a.written, a.failing = time.Now(), now, false
	case !a.failing:
		a.failing = true
		a.log.Warn("kvregistry: the snapshot file can't be written", "path", journal.Plain(a.path),
			"cause", err)
	}
}

// current are the snapshots that the file is to have: those that this run has read, and those of
// the run before of services that this one has not read yet. None is empty.
func (a *archive) current(c *cache) map[string]*Snapshot {
	all := map[string]*Snapshot{}
	if !c.sees(Everything) {
		for name := range a.past {
			if snap := a.old(name); snap != nil {
				all[name] = snap
			}
		}
	}
	for name, svc := range *c.services.Load() {
		if snap := svc.snap.Load(); snap != nil {
			all[name] = snap
		}
	}
	maps.DeleteFunc(all, func(_ string, s *Snapshot) bool { return s.Len() == 0 })
	return all
}

func savedOf(snap *Snapshot, signed map[string]string) saved {
	s := saved{At: time.Now().Add(-snap.Age()),
		Instances: make([]snapfile.Instance[Service], 0, snap.Len())}
	for one := range snap.All() {
		s.Instances = append(s.Instances, snapfile.Instance[Service]{
			Revision: one.Revision, Signer: signed[one.ID], Owner: one.Owner, Lease: one.Lease,
			Instance: one,
		})
	}
	return s
}
