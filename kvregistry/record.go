package kvregistry

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kvregistry/go/tenant"
)

// format is the number of the record format that this package writes, and the highest that it reads.
const format = 1

// record is the value of a registration's key. docs/wire-format.md describes it.
type record struct {
	Format   int     `json:"format"`
	Lease    string  `json:"lease"`
	Owner    string  `json:"owner,omitempty"` // the registry that wrote it: the same through all of its leases
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
	errWeight  = errors.New("its weight is negative")
	errLong    = errors.New("it is longer than a record may be: MaxRecord")
	errMany    = errors.New("its service has as many instances as are kept: MaxInstances")
	errMore    = errors.New("there are as many services as are kept: MaxServices")
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

// decode reads the registration of a name and an id. Unknown fields are passed over. A record that
// can't be read is left empty, but for a format that is a higher one: the error is errNewer then.
func (rec *record) decode(name, id string, value []byte, revision uint64) error {
	err := json.Unmarshal(value, rec)
	if err != nil {
		*rec = record{Format: formatOf(value)} // what else it says is not for us to judge
	}
	if rec.Format > format {
		return errNewer
	}
	if err == nil {
		err = rec.complete(name, id)
	}
	if err != nil {
		*rec = record{}
		return err
	}
	rec.Instance.Revision = revision
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
	case s.Weight < 0:
		return errWeight
	case s.Status == "":
		s.Status = Passing
	case !s.Status.valid():
		return errStatus
	}
	return nil
}

// formatOf is the format of a record of which nothing else can be read; 0 where it can't be either.
func formatOf(value []byte) int {
	var head struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(value, &head) != nil {
		return 0
	}
	return head.Format
}

// lifeOf is the lease that a key lives by, a registration's or a ticket's.
func lifeOf(key string, value []byte) (string, bool) {
	if !tenant.ByLease(key) {
		return "", false
	}
	return leaseOf(value)
}

// leaseOf is the lease that a registration's or a ticket's value names. It is all that a reaper reads of it.
func leaseOf(value []byte) (string, bool) {
	var rec struct {
		Format int    `json:"format"`
		Lease  string `json:"lease"`
	}
	if json.Unmarshal(value, &rec) != nil || rec.Format != format || !leaseID(rec.Lease) {
		return "", false
	}
	return rec.Lease, true
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
