// Package why says in words what the bucket tells of an instance or of a name that is held
// exclusively: since when it is as it is, whose it is, and how it went if it is gone.
package why

import (
	"context"
	"time"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// State is how an instance or a name is.
type State string

// How an instance or a name is.
const (
	Registered   State = "registered"   // its owner is alive
	Dead         State = "dead"         // registered, and its owner's lease has ended
	Unreadable   State = "unreadable"   // its key has a value that is no registration
	Unregistered State = "unregistered" // by its owner
	Reaped       State = "reaped"       // its owner's lease had ended
	Removed      State = "removed"      // by hand
	Held         State = "held"
	Free         State = "free"
)

// Answer is what is known of an instance or a name. Facts are sentences about it.
type Answer struct {
	What     string              `json:"what"`
	State    State               `json:"state"`
	Facts    []string            `json:"facts"`
	At       time.Time           `json:"at,omitzero"` // of the last write, by the server's clock
	Revision uint64              `json:"revision,omitempty"`
	Instance *kvregistry.Service `json:"instance,omitempty"`
	Owner    *Owner              `json:"owner,omitempty"`   // or the holder of the name
	Waiting  []Place             `json:"waiting,omitempty"` // for the name, in order
}

// Owner is a process, as its lease describes it.
type Owner struct {
	ID      string    `json:"id,omitempty"`
	Lease   string    `json:"lease"`
	Alive   bool      `json:"alive"` // the lease is there
	Host    string    `json:"host,omitempty"`
	PID     int       `json:"pid,omitempty"`
	Started time.Time `json:"started,omitzero"` // by its own clock
	TTL     string    `json:"ttl,omitempty"`
	Renewed string    `json:"renewed,omitempty"` // how long ago

	age, ttl time.Duration
}

// Place is a place in the line for a name.
type Place struct {
	Owner
	Since    time.Time `json:"since"`
	Revision uint64    `json:"revision"`
}

// message is the last message of a key.
type message struct {
	tenant.Entry
	at   time.Time // when it was written, by the server's clock
	ttl  time.Duration
	note wire.Removal
}

// scan reads the last messages of keys, and the server's time.
func scan(ctx context.Context, b *tenant.Bucket, filter string) (list []message, now time.Time,
	err error) {
	state, err := b.Scan(ctx, filter, func(m tenant.Message) {
		one := message{m.Entry, m.Time(), m.TTL(), wire.ReadRemoval(m.Note())}
		one.Value = append([]byte(nil), m.Value...)
		for i := range list { // it was written meanwhile
			if list[i].Key == one.Key {
				list[i] = one
				return
			}
		}
		list = append(list, one)
	})
	return list, state.Now, err
}

// byHand reports whether a program that is none of this registry's ended a key: what this registry
// writes ends by itself after a while.
func (m message) byHand() bool { return m.ttl == 0 || m.note.By != "" }

// teller makes an answer.
type teller struct {
	*cli.Session
	Answer
	now time.Time // by the server's clock
}

// say adds a sentence.
func (t *teller) say(sentence string) { t.Facts = append(t.Facts, sentence) }

// when says in words when something was.
func (t *teller) when(at time.Time) string {
	return at.Local().Format(time.DateTime) + " (" + short(t.now.Sub(at)) + " ago)"
}

// short returns a time without digits that nobody reads.
func short(d time.Duration) string {
	if d < 10*time.Second {
		return max(0, d).Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
