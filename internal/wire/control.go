package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/kvregistry/go/internal/document"
)

// The last tokens of the subjects by which a process asks the owner of a lease for something.
const (
	controlToken = ".control" // of the owner
	answerToken  = ".answer"  // of the process that asks
)

// ControlSubject returns the subject at which an owner takes requests. It is below an inbox of the
// owner's connection.
func ControlSubject(inbox string) string { return inbox + controlToken }

// AnswerSubject returns the subject at which a process awaits the answers to its request. It is
// below an inbox of the process's connection.
func AnswerSubject(inbox string) string { return inbox + answerToken }

// IsControl reports whether a request may be sent to a subject that a lease names. Any writer of
// leases chooses that subject: without this check it chooses what others publish to.
func IsControl(subject string) bool { return isBelowInbox(subject, controlToken) }

// IsAnswer reports whether an owner may answer to a subject that a request names.
func IsAnswer(subject string) bool { return isBelowInbox(subject, answerToken) }

// longestSubject is how many bytes a subject of a request or an answer has at most.
const longestSubject = 1024

// isBelowInbox reports whether a subject ends in a token and can be one of an inbox. An inbox may
// have any prefix, but none of NATS's own, such as those of JetStream and its buckets.
func isBelowInbox(subject, token string) bool {
	inbox, ok := strings.CutSuffix(subject, token)
	if !ok || len(subject) > longestSubject || strings.HasPrefix(inbox, "$") {
		return false
	}
	for part := range strings.SplitSeq(inbox, ".") {
		if part == "" || part == "*" || part == ">" {
			return false
		}
	}
	return strings.IndexFunc(inbox, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar
	}) < 0
}

// longestRequest is how many bytes a request has at most: more than two names have, escaped.
const longestRequest = 4 << 10

// DrainRequest makes the request to drain an instance.
func DrainRequest(service, id string) []byte {
	type instance struct {
		Service string `json:"service"`
		ID      string `json:"id"`
	}
	data, _ := json.Marshal(struct { // strings marshal
		Drain instance `json:"drain"`
	}{instance{service, id}})
	return data
}

// ReadRequest reads a request to drain an instance. The error is for the process that asks.
func ReadRequest(value []byte) (service, id string, err error) {
	if len(value) > longestRequest {
		return "", "", fmt.Errorf("the request has %d bytes, and may have %d", len(value),
			longestRequest)
	}
	m, ok := document.Read(value)
	if !ok {
		return "", "", errors.New("the request is no JSON object")
	}
	var drain []byte
	for m.Next() {
		if string(m.Name) == "drain" {
			drain = m.Value
		}
	}
	for d := document.Members(drain); d.Next(); {
		switch string(d.Name) {
		case "service":
			service, err = document.Text(d.Value)
		case "id":
			id, err = document.Text(d.Value)
		}
		if err != nil {
			return "", "", fmt.Errorf("the request's %s: %w", d.Name, err)
		}
	}
	if service == "" || id == "" {
		return "", "", errors.New("the request names no service and id to drain")
	}
	return service, id, nil
}

// State is what an owner says of a request.
type State string

// What an owner says of a request. Draining comes at once, and one of the others follows it.
const (
	Draining State = "draining" // it has begun
	Drained  State = "drained"  // it has ended
	Failed   State = "failed"   // it was not begun, or did not end as it should have
)

// Answer is an owner's answer to a request.
type Answer struct {
	State State  `json:"state"`
	Error string `json:"error,omitempty"` // why it failed
}

// Encode makes the bytes of an answer.
func (a Answer) Encode() []byte {
	data, _ := json.Marshal(a) // strings marshal
	return data
}

// ReadAnswer reads an answer. ok is false if it is none.
func ReadAnswer(value []byte) (a Answer, ok bool) {
	m, _ := document.Read(value)
	for m.Next() {
		switch text, _ := document.Text(m.Value); string(m.Name) {
		case "state":
			a.State = State(text)
		case "error":
			a.Error = text
		}
	}
	return a, a.State == Draining || a.State == Drained || a.State == Failed
}
