package doctor

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/kvregistry/go/internal/document"
	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

const (
	scanTime = 30 * time.Second // bounds the reading of the bucket

	servicePrefix = "svc."
	sweepKey      = "sweep" // of a version before the slots
)

// scan is what stands in the bucket.
type scan struct {
	now           time.Time // by the server's clock, when all had been read
	registrations []registration
	leases        map[string]leaseSeen // by id, those that are over included
	slots         map[string]slotSeen  // by key
	holds         map[string]bool      // ids of leases that registrations and tickets name
	keys, ended   int                  // keys with a value, and tombstones
	sweep         bool                 // the key of a version before the slots is there
	contested     map[string]int       // changes of owner that were watched, by key
}

// registration is a registration as it stands in the bucket.
type registration struct {
	kvregistry.Service
	key   string
	at    time.Time // when it was written, by the server's clock
	size  int
	newer bool  // it has a format that this version does not read
	err   error // why it can't be read
	alive bool  // its lease lives
	head  wire.Head
}

// leaseSeen is a lease, or its end.
type leaseSeen struct {
	wire.LeaseValue
	ttl   time.Duration // after its last renewal; 0 if it ended, or was written without one
	at    time.Time     // when it was last renewed, or ended
	alive bool
}

// slotSeen is a reaper slot, or its end.
type slotSeen struct {
	at    time.Time // when it was last renewed, or ended
	held  bool
	ready bool
}

// seen is the last message of a key.
type seen struct {
	value []byte
	rev   uint64
	op    tenant.Op
	at    time.Time
	ttl   time.Duration
}

// read reads the bucket, and then watches it for a time. ahead is by how much the server's clock is
// ahead of this process's.
func read(
	ctx context.Context, b *tenant.Bucket, ahead, watch time.Duration,
) (*scan, error) {
	ctx, cancel := context.WithTimeout(ctx, scanTime+watch)
	defer cancel()
	last, turns := map[string]seen{}, map[string]int{}
	_, err := b.ScanFor(ctx, tenant.AllKeys, watch, func(m tenant.Message) {
		before, known := last[m.Key]
		value := bytes.Clone(m.Value)
		if known && strings.HasPrefix(m.Key, servicePrefix) {
			was, is := wire.HeadOf(before.value).Owner, wire.HeadOf(value).Owner
			if was != "" && is != "" && was != is {
				turns[m.Key]++
			}
		}
		last[m.Key] = seen{value, m.Revision, m.Op, m.Time(), m.TTL()}
	})
	if err != nil {
		return nil, err
	}
	return newScan(last, turns, time.Now().Add(ahead)), nil
}

// newScan makes of what was read what the checks ask for.
func newScan(last map[string]seen, turns map[string]int, now time.Time) *scan {
	s := &scan{now: now, leases: map[string]leaseSeen{}, slots: map[string]slotSeen{},
		holds: map[string]bool{}, contested: turns}
	for key, one := range last {
		put := one.op == tenant.Put
		if put {
			s.keys++
		} else {
			s.ended++
		}
		id, isLease := tenant.ParseLeaseKey(key)
		switch {
		case isLease:
			s.leases[id] = leaseSeen{wire.ReadLease(one.value), one.ttl, one.at, put}
		case tenant.IsSlotKey(key):
			// a value that stands for longer than its TTL was written without one
			held := put && one.ttl > 0 && now.Sub(one.at) < 2*one.ttl
			s.slots[key] = slotSeen{one.at, held, held && ready(one.value)}
		case put && tenant.ByLease(key):
			head := wire.HeadOf(one.value)
			s.holds[head.Lease] = true
			if strings.HasPrefix(key, servicePrefix) {
				s.registrations = append(s.registrations, newRegistration(key, one, head))
			}
		case key == sweepKey && put:
			s.sweep = true
		}
	}
	for i := range s.registrations {
		one := &s.registrations[i]
		one.alive = s.leases[one.head.Lease].alive
	}
	slices.SortFunc(s.registrations, func(a, b registration) int {
		return strings.Compare(a.key, b.key)
	})
	return s
}

func newRegistration(key string, one seen, head wire.Head) registration {
	r := registration{key: key, at: one.at, size: len(one.value), head: head}
	var service any
	service, r.newer, r.err = inside.Record(key, one.value, one.rev)
	r.Service, _ = service.(kvregistry.Service)
	return r
}

// ready reports whether a slot's value says that its owner purges what is dead.
func ready(value []byte) bool {
	for m, _ := document.Read(value); m.Next(); {
		if string(m.Name) == "ready" {
			n, _ := document.Whole(m.Value)
			return n == 1
		}
	}
	return false
}

// living are the registrations that can be read and whose lease lives.
func (s *scan) living() (list []registration) {
	for _, one := range s.registrations {
		if one.alive && one.err == nil {
			list = append(list, one)
		}
	}
	return list
}

// hosts are the hosts that living leases name.
func (s *scan) hosts() map[string]bool {
	hosts := map[string]bool{}
	for _, one := range s.leases {
		if one.alive && one.Host != "" {
			hosts[one.Host] = true
		}
	}
	return hosts
}

// over is how long ago a lease ended; at least that long if its end left no trace.
func (s *scan) over(r registration) time.Duration {
	at := r.at
	if end, ok := s.leases[r.head.Lease]; ok && end.at.After(at) {
		at = end.at
	}
	return s.now.Sub(at)
}
