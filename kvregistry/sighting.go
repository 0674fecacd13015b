package kvregistry

import (
	"errors"

	"github.com/kvregistry/go/kvregistry/internal/signing"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// read is sight of what the view saw, of which the value is not kept.
func (o *observer) read(ch watcher.Change) *sighting {
	s := o.sight(ch)
	s.Value = nil
	return s
}

// sightings are what read made of changes.
func (o *observer) sightings(changes []watcher.Change) []*sighting {
	seen := make([]*sighting, len(changes))
	for i, ch := range changes {
		s, ok := ch.Read.(*sighting)
		if !ok {
			s = o.read(ch)
		}
		seen[i] = s
	}
	return seen
}

// sight reads a change, and believes it if it is signed as it has to be.
func (o *observer) sight(ch watcher.Change) *sighting {
	return o.sightUpTo(ch, o.opt.bounds.record)
}

// sightUpTo is sight for a record of up to a length.
func (o *observer) sightUpTo(ch watcher.Change, most int) *sighting {
	s := sight(ch, most)
	if ch.Over {
		s.err = errMemory
	}
	trusted := o.opt.signersOf(s.name)
	if trusted == nil || s.err != nil && !errors.Is(s.err, errNewer) || ch.Op != tenant.Put {
		return s
	}
	if s.err == nil {
		at := signing.Place{Bucket: o.bucket.Name(), Key: s.Key, Lease: s.rec.Lease,
			Owner: s.rec.Owner}
		s.signer, s.err = signing.Believe(trusted, at, s.Value)
	}
	if s.err != nil {
		s.rec = record{} // it judges nobody
	}
	return s
}

// sighting is a change together with what its value says.
type sighting struct {
	watcher.Change
	name, id string // as the key says
	rec      record
	signer   string // its signer, if signers are given
	err      error  // why a put's value can't be read
}

// Bytes is about what a sighting takes in memory.
func (s *sighting) Bytes() int { return s.rec.Instance.bytes() }

// Junk reports whether a put's value can't be read.
func (s *sighting) Junk() bool { return s.err != nil }

// sight reads a change. A value that is longer than a record may be is not even looked at.
func sight(ch watcher.Change, most int) *sighting {
	s := &sighting{Change: ch}
	var ok bool
	if s.name, s.id, ok = tenant.ParseServiceKey(ch.Key); !ok {
		s.err = errNotKey
	} else if ch.Op == tenant.Put && max(ch.Long, len(ch.Value)) > most {
		s.err = errLong
	} else if ch.Op == tenant.Put {
		s.err = s.rec.decode(s.name, s.id, ch.Value, ch.Revision)
	}
	return s
}
