package watcher

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kvregistry/go/tenant"
)

// replicated is a bucket whose replicas lag, as a view sees it.
type replicated struct {
	history []Change // of revisions 1, 2, …
	created time.Time
}

func (b *replicated) write(key string, op tenant.Op) {
	b.history = append(b.history, Change{Key: key, Revision: uint64(len(b.history) + 1), Op: op})
}

// at returns what a replica at a revision holds under filters. The marker of an ended key may be
// gone.
func (b *replicated) at(upTo uint64, fs filters) (entries []Change) {
	last := map[string]Change{}
	for _, c := range b.history[:upTo] {
		last[c.Key] = c
	}
	for _, c := range last {
		if fs.covers(c.Key) && (c.Op == tenant.Put || rand.N(2) == 0) {
			entries = append(entries, c)
		}
	}
	slices.SortFunc(entries, func(a, b Change) int { return int(a.Revision) - int(b.Revision) })
	return entries
}

// In one life of a bucket no key goes back, and no key that ended comes back. That holds for
// snapshots of any replica, while filters come and go. A snapshot that has less than was shown is
// not shown. No leader is asked here. Seen to fail without the check of either kind of snapshot,
// with filters that begin with nothing told, and if ends without a trace count for nothing.
func TestSnapshotsOfReplicasThatLag(t *testing.T) {
	t.Parallel()
	all := []string{"svc.a.1", "svc.a.2", "svc.b.1", "svc.a.*", "svc.b.*", "svc.>", tenant.AllKeys}
	for range 3000 {
		b := &replicated{created: time.Now()}
		high := map[string]uint64{}
		unwatching, log := false, ""
		v := New(nil, Config{Apply: func(changes []Change, snapshot *Snapshot) {
			for _, c := range changes {
				log += fmt.Sprintf("  told %s %s at %d\n", c.Op, c.Key, c.Revision)
				switch {
				case unwatching:
					continue
				case c.Revision > 0 && c.Revision <= high[c.Key] || c.Epoch > 0:
					t.Fatalf("%s goes from %d to %d:\n%s", c.Key, high[c.Key], c.Revision, log)
				}
				high[c.Key] = max(high[c.Key], c.Revision)
			}
		}})
		reads, position, running := filters{}, uint64(0), false
		for range 30 {
			last := uint64(len(b.history))
			upTo := last - min(last, rand.Uint64N(8))
			switch rand.N(7) {
			case 0, 1, 2:
				b.write(all[rand.N(3)], []tenant.Op{tenant.Put, tenant.Put,
					tenant.Delete}[rand.N(3)])
			case 3: // the session shows more
				for ; running && position < last && rand.N(3) > 0; position++ {
					if c := b.history[position]; reads.covers(c.Key) {
						v.change([]Change{c})
					}
				}
			case 4: // a new session, of any replica
				if running = len(v.wanted) > 0; !running {
					continue
				}
				fs := v.want()
				log += fmt.Sprintf("session of %v at %d\n", slices.Collect(maps.Keys(fs)), upTo)
				from := source{created: b.created, leader: last, replicas: 3}
				need, err := v.replace(fs, from, Snapshot{UpTo: upTo}, b.at(upTo, fs))
				if err != nil || need > last {
					t.Fatalf("a snapshot needs %d of %d, %v", need, last, err)
				}
				reads, position, running = fs, upTo, need <= upTo
			case 5:
				f := all[rand.N(len(all))]
				log += fmt.Sprintf("watch %s at %d\n", f, upTo)
				v.Watch(f)
				if !running || v.covered(reads) {
					continue
				}
				added, wanted := v.takeAdded()
				reads = wanted
				for need := uint64(0); ; upTo = need { // the session beside it waits for this one
					if need = v.join(added, Snapshot{UpTo: upTo}, b.at(upTo, added)); need <= upTo {
						break
					}
				}
			case 6:
				f := all[rand.N(len(all))]
				log += fmt.Sprintf("unwatch %s\n", f)
				unwatching = true
				v.Unwatch(f)
				unwatching = false
				maps.DeleteFunc(high, func(key string, _ uint64) bool {
					return !v.wanted.covers(key)
				})
			}
		}
	}
}

// A key of a replicated bucket that comes at a lower revision than was shown is not believed for a
// while. Then it begins another life. Seen to fail with views that drop what is lower.
func TestReplicatedBucketThatLostItsLastWrites(t *testing.T) {
	t.Parallel()
	epoch := uint64(0)
	v := New(nil, Config{Apply: func(_ []Change, snapshot *Snapshot) { epoch = snapshot.Epoch }})
	v.Watch("svc.a.*")
	from := source{created: time.Now(), replicas: 3, leader: 10}
	show := func(rev uint64) error {
		from.leader++
		_, err := v.replace(v.wanted, from, Snapshot{UpTo: from.leader},
			[]Change{{Key: "svc.a.1", Revision: rev}})
		return err
	}
	if err := show(10); err != nil {
		t.Fatal(err)
	}
	if err := show(7); !errors.Is(err, errBehind) || epoch != 0 {
		t.Fatalf("a key that went back was believed at once: %v, epoch %d", err, epoch)
	}
	v.backward.since = time.Now().Add(-2 * deposed)
	if err := show(7); err != nil || epoch != 1 {
		t.Fatalf("a key that went back for good is not shown: %v, epoch %d", err, epoch)
	}
}
