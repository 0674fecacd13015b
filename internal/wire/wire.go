// Package wire has the bytes of the values in a tenant's bucket, except a registration's instance.
//
// docs/wire-format.md describes them all.
package wire

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/kvregistry/go/internal/document"
)

// Format is the number of the format that this module writes, and the highest that it reads.
const Format = 1

// ErrJSON says that a value is no JSON object.
var ErrJSON = errors.New("it is no JSON")

// Parts are the members of a registration's or a ticket's value as they stand there. A member that
// the value leaves out is nil.
type Parts struct{ Format, Lease, Owner, Instance, Signer, Signature []byte }

// Split takes a value apart. It passes over unknown members. The error is [ErrJSON].
func Split(value []byte) (p Parts, err error) {
	m, ok := document.Read(value)
	if !ok {
		return Parts{}, ErrJSON
	}
	for m.Next() {
		switch string(m.Name) {
		case "format":
			p.Format = m.Value
		case "lease":
			p.Lease = m.Value
		case "owner":
			p.Owner = m.Value
		case "instance":
			p.Instance = m.Value
		case "signer":
			p.Signer = m.Value
		case "signature":
			p.Signature = m.Value
		}
	}
	return p, nil
}

// Head is what a reaper reads of a registration, and a line of a ticket. It stands at the same
// place in every format.
type Head struct {
	Format int    // 0 if it has none
	Lease  string // empty if it names none
	Owner  string // empty if it is not known
}

// Lives reports whether a value is a registration or a ticket of any format, which ends with its
// lease.
func (h Head) Lives() bool { return h.Format >= 1 && h.Lease != "" }

// HeadOf reads a value's head. The rest of the value may be anything.
func HeadOf(value []byte) (h Head) {
	p, _ := Split(value)
	h.Format, _ = document.Whole(p.Format)
	if h.Lease, _ = document.Text(p.Lease); !LeaseID(h.Lease) {
		h.Lease = ""
	}
	h.Owner, _ = document.Text(p.Owner)
	return h
}

// LeaseOf returns the lease that a registration's or a ticket's value names.
func LeaseOf(value []byte) (id string, ok bool) {
	if h := HeadOf(value); h.Lives() {
		return h.Lease, true
	}
	return "", false
}

// LongestLeaseID is how many bytes a lease's id has at most.
const LongestLeaseID = 64

// LeaseID reports whether a lease may have an id: letters and digits. A reaper could seal no lease
// with another id.
func LeaseID(id string) bool {
	return id != "" && len(id) <= LongestLeaseID && strings.IndexFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) < 0
}

// LeaseValue is the value of a lease's key. Control is for programs, and the rest for people to
// read.
type LeaseValue struct {
	Format  int       `json:"format"`
	Owner   string    `json:"owner"`
	Host    string    `json:"host,omitempty"`
	PID     int       `json:"pid"`
	TTL     string    `json:"ttl"`
	Started time.Time `json:"started,omitzero"`  // when the owner started, by its own clock
	Control string    `json:"control,omitempty"` // the subject at which the owner takes requests
}

// Lease makes the value of a lease's key. control is empty if the owner takes no requests.
func Lease(owner string, ttl time.Duration, started time.Time, control string) []byte {
	data, _ := json.Marshal(LeaseValue{Format, owner, hostname(), os.Getpid(), ttl.String(),
		started.UTC().Truncate(time.Second), control}) // strings, numbers and times marshal
	return data
}

// ReadLease reads the value of a lease's key. What it does not say, or says in another type, is
// zero.
func ReadLease(value []byte) (v LeaseValue) {
	m, _ := document.Read(value)
	for m.Next() {
		switch string(m.Name) {
		case "owner":
			v.Owner, _ = document.Text(m.Value)
		case "host":
			v.Host, _ = document.Text(m.Value)
		case "pid":
			v.PID, _ = document.Whole(m.Value)
		case "started":
			text, _ := document.Text(m.Value)
			v.Started, _ = time.Parse(time.RFC3339, text)
		case "control":
			if v.Control, _ = document.Text(m.Value); !IsControl(v.Control) {
				v.Control = ""
			}
		}
	}
	return v
}

// Ticket makes the value of a ticket's key. The host and the process id are for people to read.
func Ticket(owner, lease string) []byte {
	data, _ := json.Marshal(struct { // strings and numbers marshal
		Format int    `json:"format"`
		Lease  string `json:"lease"`
		Owner  string `json:"owner"`
		Host   string `json:"host,omitempty"`
		PID    int    `json:"pid"`
	}{Format, lease, owner, hostname(), os.Getpid()})
	return data
}

// hostname is this machine's name, or empty if it has none.
func hostname() string {
	name, _ := os.Hostname()
	return name
}
