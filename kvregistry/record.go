package kvregistry

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kvregistry/go/internal/document"
	"github.com/kvregistry/go/tenant"
)

// format is the number of the record format that this package writes, and the highest that it reads.
const format = 1

// record is the value of a registration's key, as it is written. docs/wire-format.md describes it.
// What reads it is decode.
type record struct {
	Format   int     `json:"format"`
	Lease    string  `json:"lease"`
	Owner    string  `json:"owner,omitempty"` // the registry that wrote it: the same through all of its leases
	Instance Service `json:"instance"`

	Signer    string `json:"signer,omitempty"` // a public nkey
	Signature []byte `json:"signature,omitempty"`
}

var (
	errJSON    = errors.New("it is no JSON")
	errNewer   = errors.New("its format is newer than this package reads")
	errForeign = errors.New("its name or id is not its key's")
	errNoLease = errors.New("it names no lease: letters and digits, 64 at the most")
	errNotKey  = errors.New("its key is not one of a registration")
	errStatus  = errors.New("its status is unknown")
	errLong    = errors.New("it is longer than a record may be: MaxRecord")
	errMany    = errors.New("its service has as many instances as are kept: MaxInstances")
	errMore    = errors.New("there are as many services as are kept: MaxServices")
	errMemory  = errors.New("there is no more memory for it: MaxMemory")
)

// encode makes the value of a registration's key, of at most so many bytes. The error wraps ErrInvalidService.
func encode(rec record, s Service, most int) ([]byte, error) {
	rec.Instance = s
	data, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrInvalidService, s.Name, err)
	}
	if len(data) > most {
		return nil, fmt.Errorf("%w %q: its record has %d bytes, at most %d are allowed; register less metadata, or raise MaxRecord in all of the tenant's processes",
			ErrInvalidService, s.Name, len(data), most)
	}
	return data, nil
}

// parts are the members of a record's or a ticket's value, as they stand there; nil for what is
// left out.
type parts struct{ format, lease, owner, instance, signer, signature []byte }

// split takes a value apart. The error is errJSON.
func split(value []byte) (p parts, err error) {
	m, ok := document.Read(value)
	if !ok {
		return parts{}, errJSON
	}
	for m.Next() {
		switch string(m.Name) {
		case "format":
			p.format = m.Value
		case "lease":
			p.lease = m.Value
		case "owner":
			p.owner = m.Value
		case "instance":
			p.instance = m.Value
		case "signer":
			p.signer = m.Value
		case "signature":
			p.signature = m.Value
		}
	}
	return p, nil
}

// decode reads the registration of a name and an id. Unknown members are passed over, and so is the
// signature. A record that can't be read is left empty, but for a format that is a higher one: the
// error is errNewer then.
func (rec *record) decode(name, id string, value []byte, revision uint64) error {
	p, err := split(value)
	if err == nil {
		err = rec.read(&p)
	}
	if err == nil {
		err = rec.complete(name, id)
	}
	switch {
	case errors.Is(err, errNewer):
		*rec = record{Format: rec.Format}
	case err != nil:
		*rec = record{}
	default:
		rec.Instance.Revision = revision
	}
	return err
}

// read takes what a record says. Of a higher format it takes the number alone: what else it says is
// not for us to judge.
func (rec *record) read(p *parts) (err error) {
	if rec.Format, err = document.Whole(p.format); err != nil {
		return fmt.Errorf("format: %w", err)
	}
	if rec.Format > format {
		return errNewer
	}
	if rec.Lease, err = document.Text(p.lease); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	if rec.Owner, err = document.Text(p.owner); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	return rec.Instance.read(p.instance)
}

// read takes what a record says of its instance.
func (s *Service) read(instance []byte) error {
	var id, name, version, network, address, url, host, zone, tags, metadata, weight, status []byte
	for m := document.Members(instance); m.Next(); {
		switch string(m.Name) {
		case "id":
			id = m.Value
		case "name":
			name = m.Value
		case "version":
			version = m.Value
		case "network":
			network = m.Value
		case "address":
			address = m.Value
		case "url":
			url = m.Value
		case "host":
			host = m.Value
		case "zone":
			zone = m.Value
		case "tags":
			tags = m.Value
		case "metadata":
			metadata = m.Value
		case "weight":
			weight = m.Value
		case "status":
			status = m.Value
		}
	}
	for _, text := range [...]struct {
		name string
		raw  []byte
		to   *string
	}{
		{"id", id, &s.ID}, {"name", name, &s.Name}, {"version", version, &s.Version},
		{"network", network, &s.Network}, {"address", address, &s.Address}, {"url", url, &s.URL},
		{"host", host, &s.Host}, {"zone", zone, &s.Zone}, {"status", status, (*string)(&s.Status)},
	} {
		var err error
		if *text.to, err = document.Text(text.raw); err != nil {
			return fmt.Errorf("%s: %w", text.name, err)
		}
	}
	var err error
	if s.Tags, err = document.Texts(tags); err != nil {
		return fmt.Errorf("tags: %w", err)
	}
	if s.Metadata, err = document.Pairs(metadata); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	if s.Weight, err = document.Whole(weight); err != nil {
		return fmt.Errorf("weight: %w", err)
	}
	return nil
}

// complete fills in what a record leaves out, and says what is wrong with it.
func (rec *record) complete(name, id string) error {
	switch s := &rec.Instance; {
	case rec.Format < 1:
		return fmt.Errorf("its format is %d", rec.Format)
	case !leaseID(rec.Lease):
		return errNoLease
	case s.Name != name || s.ID != id:
		return errForeign
	case s.Status == "":
		s.Status = Passing
	case !s.Status.valid():
		return errStatus
	}
	return nil
}

// lifeOf is the lease that a key lives by, a registration's or a ticket's.
func lifeOf(key string, value []byte) (string, bool) {
	if !tenant.ByLease(key) {
		return "", false
	}
	return leaseOf(value)
}

// leaseOf is the lease that a registration's or a ticket's value names. It is all that a reaper
// reads of it, and stands at the same place in every format.
func leaseOf(value []byte) (string, bool) {
	if h := headOf(value); h.lives() {
		return h.lease, true
	}
	return "", false
}

// head is what is read of a ticket, and of a record by a reaper.
type head struct {
	format int    // 0 if it has none
	lease  string // empty if it names none
	owner  string // empty if that is not known
}

// lives reports whether it is that of a registration or a ticket, of any format: its lease will end
// it.
func (h head) lives() bool { return h.format >= 1 && h.lease != "" }

// headOf reads a value's head. What else it says may be anything.
func headOf(value []byte) (h head) {
	p, _ := split(value)
	h.format, _ = document.Whole(p.format)
	if h.lease, _ = document.Text(p.lease); !leaseID(h.lease) {
		h.lease = ""
	}
	h.owner, _ = document.Text(p.owner)
	return h
}

// leaseID reports whether a lease may have this id: letters and digits. Another is no key that could ever be asked for, and so none
// that a reaper could seal.
func leaseID(id string) bool {
	const most = 64
	return id != "" && len(id) <= most && strings.IndexFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) < 0
}

// leaseValue is the value of a lease's key, which people read and programs do not.
func leaseValue(owner string, ttl time.Duration) []byte {
	data, _ := json.Marshal(struct { // strings and numbers marshal
		Format int    `json:"format"`
		Owner  string `json:"owner"`
		Host   string `json:"host,omitempty"`
		PID    int    `json:"pid"`
		TTL    string `json:"ttl"`
	}{format, owner, hostname(), os.Getpid(), ttl.String()})
	return data
}
