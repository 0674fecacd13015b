package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Entry is a key as it was read.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
	Op       Op
}

// Get reads one key, as the stream's leader knows it. found is false if the key has no value:
// nobody wrote it, or it ended.
func (b *Bucket) Get(ctx context.Context, key string) (e Entry, found bool, err error) {
	e, err = b.Last(ctx, key)
	return e, err == nil && e.Revision > 0 && e.Op == Put, err
}

// Last reads the last change under a filter, as the stream's leader knows it. An end is a change,
// too. The revision is 0 if there is no change. Last does not use a direct get: its answer is the
// entry as it was written, and headers of the entry could make it look like no entry.
func (b *Bucket) Last(ctx context.Context, filter string) (Entry, error) {
	return b.last(ctx, b.api("STREAM.MSG.GET"), filter)
}

// LastNear is [Bucket.Last] as the mirror knows it.
func (b *Bucket) LastNear(ctx context.Context, filter string) (Entry, error) {
	return b.last(ctx, ownAPI+".STREAM.MSG.GET."+b.stream, filter)
}

func (b *Bucket) last(ctx context.Context, subject, filter string) (e Entry, err error) {
	ask, err := json.Marshal(map[string]string{"last_by_subj": b.subjectOf(filter)})
	if err == nil {
		err = b.Do(ctx, attempt, func(ctx context.Context) error {
			msg, err := b.nc.RequestWithContext(ctx, subject, ask)
			if err == nil {
				e, err = b.entryOf(msg.Data)
			}
			return err
		}, subject)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("tenant: last of %s: %w", filter, err)
	}
	return e, nil
}

// entryOf reads the answer to a request for a message. The entry is empty if there is no message.
func (b *Bucket) entryOf(data []byte) (Entry, error) {
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Headers []byte `json:"hdrs"`
			Data    []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return Entry{}, err
	}
	if e := answer.Error; e != nil && e.ErrorCode != jetstream.JSErrCodeMessageNotFound {
		return Entry{}, e
	}
	last := answer.Message
	var h nats.Header
	if last.Headers != nil {
		var err error
		if h, err = nats.DecodeHeadersMsg(last.Headers); err != nil {
			h = nats.Header{jetstream.StreamHeader: nil} // no client that means well wrote it
		}
	}
	value, op := content(h, last.Data)
	return Entry{Key: b.keyOf(last.Subject), Value: value, Revision: last.Seq, Op: op}, nil
}

// LastRevision returns the revision of the bucket's last change, as the stream's leader knows it.
func (b *Bucket) LastRevision(ctx context.Context) (uint64, error) {
	state, err := b.State(ctx)
	if err != nil {
		return 0, fmt.Errorf("tenant: last revision: %w", err)
	}
	return state.Last, nil
}

// content reads what a message does to its key.
//
// A user that may make requests in an account can have the server's answers sent to any subject of
// it, and so into a bucket that the user may not write to. An answer says which stream it is from,
// and a client's write does not: content takes an answer for a put of nothing.
func content(h nats.Header, data []byte) (value []byte, op Op) {
	switch {
	case h == nil:
		return data, Put
	case isAnswer(h):
		return nil, Put
	case h.Get("KV-Operation") == operations[Delete]:
		return nil, Delete
	case h.Get("KV-Operation") == operations[Purge]:
		return nil, Purge
	case h.Get(jetstream.MarkerReasonHeader) != "":
		return nil, Expire
	}
	return data, Put
}

// contentOf is content of a received message. If nats.go could not read the headers, the message
// has none, and nothing is known of what they said.
func contentOf(msg *nats.Msg) (value []byte, op Op) {
	if msg.Header == nil && msg.Size() > len(msg.Subject)+len(msg.Reply)+len(msg.Data) {
		return nil, Put
	}
	return content(msg.Header, msg.Data)
}

// isAnswer reports whether the header of an answer is there. Its value does not count: an answer
// has the headers of the message that it shows, too, and these come first.
func isAnswer(h nats.Header) bool { _, ok := h[jetstream.StreamHeader]; return ok }

// expectedOf returns the revision of its key that a message's write named; nil if it named none.
// The server did the write on top of that revision.
func expectedOf(msg *nats.Msg) *uint64 {
	revision, err := strconv.ParseUint(msg.Header.Get(jetstream.ExpectedLastSubjSeqHeader), 10, 64)
	if _, other := msg.Header[expectedOfAnother]; err != nil || other {
		return nil
	}
	return &revision
}

// expectedOfAnother is the header by which a write names the revision of another key.
const expectedOfAnother = "Nats-Expected-Last-Subject-Sequence-Subject"

// ttlOf returns the time to live that a message gives its key; 0 if it gives none.
func ttlOf(msg *nats.Msg) time.Duration {
	text := msg.Header.Get(jetstream.MsgTTLHeader)
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil { // as some clients write it
		return time.Duration(seconds) * time.Second
	}
	ttl, _ := time.ParseDuration(text)
	return ttl
}
