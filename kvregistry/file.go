package kvregistry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kvregistry/go/internal/journal"
)

// DefaultSnapshotFileAge is how old what stands in a snapshot file may be, unless [SnapshotFileAge] says otherwise.
const DefaultSnapshotFileAge = 24 * time.Hour

const (
	fileFormat  = 1
	largestFile = 1 << 30
	saveTime    = 5 * time.Second // between two looks at whether there is something to save
)

// SnapshotFile keeps what this registry observes in a file, of which the next run of the program answers its first look-ups while NATS is away: at once where
// there is no connection, and where the bucket can't be read, when the look-up has waited in vain. Such a snapshot is [Snapshot.Stale], its Age
// counts from when the server last confirmed it, and [Health] names its service. Instances come and go by what NATS says only: events do not tell of the file, and what was read once is never
// taken from it again. Of a service with signers ([TrustSigners]) the file keeps who signed, and
// what none of those that are given now has signed is not shown.
//
// The file is written within 5 s of a change and by Close, under another name first, so that it is whole at any time. What stands in it for longer than
// [SnapshotFileAge] is not used, nor is a file that can't be read: the log says so. Its folder has to be there. It is readable by its owner only, for URLs and metadata may hold passwords.
// Each registry needs a file of its own: of two that share one, the last to write has it.
func SnapshotFile(path string) Option {
	return func(o *options) error {
		if info, err := os.Stat(filepath.Dir(path)); path == "" || err != nil || !info.IsDir() {
			return fmt.Errorf("%w: SnapshotFile(%q): %q is no folder; make it first", ErrInvalidOption, path, filepath.Dir(path))
		}
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("%w: SnapshotFile(%q) is there and no file; name another", ErrInvalidOption, path)
		}
		o.file = path
		return nil
	}
}

// SnapshotFileAge bounds how old what stands in the [SnapshotFile] may be, by this machine's clock: a minute or more, [DefaultSnapshotFileAge] by default.
func SnapshotFileAge(d time.Duration) Option {
	return func(o *options) error {
		if d < time.Minute {
			return fmt.Errorf("%w: SnapshotFileAge(%s); use 1m or more", ErrInvalidOption, d)
		}
		o.fileAge = d
		return nil
	}
}

// file is what a snapshot file says.
type file struct {
	Format   int              `json:"format"`
	Tenant   string           `json:"tenant"`
	Services map[string]saved `json:"services"`
}

// saved is a service's snapshot.
type saved struct {
	At        time.Time       `json:"at"` // when the server last confirmed it
	Instances []savedInstance `json:"instances"`
}

type savedInstance struct {
	Revision uint64  `json:"revision"`
	Signer   string  `json:"signer,omitempty"` // of those that were given for the service then; empty if none were
	Instance Service `json:"instance"`
}

// files keeps a registry's snapshot file. Its methods are for one goroutine at a time, but for old, which is for all.
type files struct {
	path   string
	tenant string
	most   time.Duration
	past   map[string]*Snapshot         // of the run before; never changes
	signed map[string]map[string]string // who signed what is in past, by service and id; never changes

	wrote   time.Time            // when it was last written,
	written map[string]*Snapshot // and what of
	failing bool                 // it could not be written, and the log says so
}

// openFile reads what the run before left. Where that is another tenant's, it is an error, for this one's would take its place.
func openFile(o *options) (*files, error) {
	f := &files{path: o.file, tenant: o.tenant, most: o.fileAge, past: map[string]*Snapshot{}, signed: map[string]map[string]string{}}
	content, err := readFile(o.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil
	case err == nil && content.Tenant != o.tenant && content.Tenant != "":
		return nil, fmt.Errorf("%w: SnapshotFile(%q) is tenant %q's, not %q's; name a file for each", ErrInvalidOption, o.file, content.Tenant, o.tenant)
	case err == nil && content.Format != fileFormat:
		err = fmt.Errorf("it has format %d, and this version reads %d", content.Format, fileFormat)
	}
	if err != nil {
		o.logger.Warn("kvregistry: the snapshot file is not used", "path", journal.Plain(o.file), "cause", err)
		return f, nil
	}
	for name, s := range content.Services {
		if snap, signed := s.snapshot(name, o.signersOf(name)); snap != nil && f.fresh(snap) {
			f.past[name], f.signed[name] = snap, signed
		}
	}
	return f, nil
}

func readFile(path string) (content file, err error) {
	r, err := os.Open(path)
	if err != nil {
		return file{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	d := json.NewDecoder(io.LimitReader(r, largestFile))
	if err := d.Decode(&content); err != nil {
		return file{}, fmt.Errorf("it is damaged: %w", err)
	}
	return content, nil
}

// snapshot is what was saved and who signed it, but for what is no instance of the service, or is
// signed by none of the trusted, if there are any; nil if nothing is left.
func (s *saved) snapshot(name string, trusted []string) (*Snapshot, map[string]string) {
	list := noInstances
	signed := map[string]string{}
	var last uint64
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
		last = max(last, one.Revision)
		list = list.With(1, one.compact(name))
	}
	list.Seal(1)
	if list.Count(every) == 0 {
		return nil, nil
	}
	snap := newSnapshot(name, list, last, nil)
	snap.saved = s.At
	return snap, signed
}

// fresh reports whether a snapshot of the file may be used.
func (f *files) fresh(s *Snapshot) bool {
	age := s.Age()
	return age >= 0 && age <= f.most
}

// knows reports whether the run before left anything.
func (f *files) knows() bool { return f != nil && len(f.past) > 0 }

// old is the snapshot of a service that the run before left; nil where there is none, or it is too old.
func (f *files) old(name string) *Snapshot {
	if f == nil {
		return nil
	}
	if s := f.past[name]; s != nil && f.fresh(s) {
		return s
	}
	return nil
}

// keepFile saves what is observed, until the registry is closed.
func (r *Registry) keepFile() {
	t := time.NewTicker(saveTime)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			r.saveFile()
		case <-r.ctx.Done():
			return
		}
	}
}

// saveFile writes the snapshot file where something changed since, or it says for too long that nothing did.
func (r *Registry) saveFile() {
	if r.age() < 0 { // nothing was read yet
		return
	}
	f, now := r.file, r.toSave()
	if maps.Equal(now, f.written) && time.Since(f.wrote) < f.most/24 {
		return
	}
	content := file{fileFormat, f.tenant, map[string]saved{}}
	for name, snap := range now {
		signed := f.signed[name]
		if svc := r.cache.find(name); svc != nil && !snap.Stale() {
			snap, signed = r.cache.signed(svc)
		}
		content.Services[name] = savedOf(snap, signed)
	}
	err := writeFile(f.path, content)
	switch {
	case err == nil:
		f.wrote, f.written, f.failing = time.Now(), now, false
	case !f.failing:
		f.failing = true
		r.log.Warn("kvregistry: the snapshot file can't be written", "path", journal.Plain(f.path), "cause", err)
	}
}

// toSave are the snapshots that the file is to have: those that this run has read, and those that the one before left of services that this one has not read
// yet. None is empty.
func (r *Registry) toSave() map[string]*Snapshot {
	all := map[string]*Snapshot{}
	if !r.cache.sees(Everything) {
		for name := range r.file.past {
			if snap := r.file.old(name); snap != nil {
				all[name] = snap
			}
		}
	}
	for name, svc := range *r.cache.services.Load() {
		if snap := svc.snap.Load(); snap != nil {
			all[name] = snap
		}
	}
	maps.DeleteFunc(all, func(_ string, s *Snapshot) bool { return s.Len() == 0 })
	return all
}

func savedOf(snap *Snapshot, signed map[string]string) saved {
	s := saved{At: time.Now().Add(-snap.Age()), Instances: make([]savedInstance, 0, snap.Len())}
	for one := range snap.All() {
		s.Instances = append(s.Instances, savedInstance{one.Revision, signed[one.ID], one})
	}
	return s
}

// writeFile has the file's name say the old content or the new, and nothing in between, whoever writes it at the same time.
func writeFile(path string, content file) error {
	data, err := json.Marshal(content)
	if err != nil {
		return err
	}
	w, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new") // nobody else's, and readable by its owner only: process ids are the same in all containers
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	if err = errors.Join(err, w.Sync(), w.Close()); err == nil {
		err = os.Rename(w.Name(), path)
	}
	if err != nil {
		_ = os.Remove(w.Name())
	}
	return err
}

// staleNames are those of the names whose look-ups the file would answer.
func (r *Registry) staleNames(unread []string) []string {
	return slices.DeleteFunc(slices.Clone(unread), func(name string) bool { return r.file.old(name) == nil })
}
