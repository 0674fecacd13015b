package kvregistry

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/kvregistry/go/internal/document"
	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/tenant"
)

// record is the value of a registration's key, as it is written. docs/wire-format.md describes it.
// What reads it is decode.
type record struct {
	Format   int     `json:"format"`
	Lease    string  `json:"lease"`
	Owner    string  `json:"owner,omitempty"` // a registry, through all of its leases
	Instance Service `json:"instance"`

	Signer    string `json:"signer,omitempty"` // a public nkey
	Signature []byte `json:"signature,omitempty"`
}

var (
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

// encode makes the value of a registration's key, of at most so many bytes. The error wraps
// ErrInvalidService.
func encode(rec record, s Service, most int) ([]byte, error) {
	rec.Instance = s
	data, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrInvalidService, s.Name, err)
	}
	if len(data) > most {
		return nil, fmt.Errorf("%w %q: its record has %d bytes, at most %d are allowed; register "+
			"less metadata, or raise MaxRecord in all of the tenant's processes",
			ErrInvalidService, s.Name, len(data), most)
	}
	return data, nil
}

// decode reads the registration of a name and an id. Unknown members are passed over, and so is the
// signature. A record that can't be read is left empty, except for a format that is a higher one:
// the error is errNewer then.
func (rec *record) decode(name, id string, value []byte, revision uint64) error {
	p, err := wire.Split(value)
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

func init() { inside.Record = readRecord }

// readRecord reads the value of a registration's key: see [inside.Record].
func readRecord(key string, value []byte, revision uint64) (service any, newer bool, err error) {
	name, id, ok := tenant.ParseServiceKey(key)
	if !ok {
		return Service{}, false, errNotKey
	}
	var rec record
	err = rec.decode(name, id, value, revision)
	rec.Instance.Owner, rec.Instance.Lease = rec.Owner, rec.Lease
	return rec.Instance, errors.Is(err, errNewer), err
}

// read takes what a record says. Of a higher format it takes the number alone: what else it says is
// not for us to judge.
func (rec *record) read(p *wire.Parts) (err error) {
	if rec.Format, err = document.Whole(p.Format); err != nil {
		return fmt.Errorf("format: %w", err)
	}
	if rec.Format > wire.Format {
		return errNewer
	}
	if rec.Lease, err = document.Text(p.Lease); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	if rec.Owner, err = document.Text(p.Owner); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	return rec.Instance.read(p.Instance)
}

// read takes what a record says of its instance.
func (s *Service) read(instance []byte) error {
	var id, name, version, network, address, url, host, zone, status []byte
	var tags, metadata, endpoints, weight []byte
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
		case "endpoints":
			endpoints = m.Value
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
	if s.Endpoints, err = document.Pairs(endpoints); err != nil {
		return fmt.Errorf("endpoints: %w", err)
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
	case !wire.LeaseID(rec.Lease):
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
	return wire.LeaseOf(value)
}
