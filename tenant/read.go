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

// await returns when the bucket, which must have been reached, has a connection that is up.
func (b *Bucket) await(ctx context.Context) error {
	if !b.reached.Load() {
		return fmt.Errorf("%w: %s was not reached yet", ErrBucketNotFound, b.name)
	}
	return b.AwaitConnected(ctx)
}

// Get reads one key, as the stream's leader knows it. found is false where it has no value: it never was, or it ended.
func (b *Bucket) Get(ctx context.Context, key string) (e Entry, found bool, err error) {
	e, err = b.Last(ctx, key)
	return e, err == nil && e.Revision > 0 && e.Op == Put, err
}

// Last is the last change under a filter, an end included, as the stream's leader knows it; of revision 0 where there
// is none. It is not asked by a direct get, whose answer is the entry as it was written: one whose headers say so would look like no entry at all.
func (b *Bucket) Last(ctx context.Context, filter string) (Entry, error) {
	return b.last(ctx, b.API("STREAM.MSG.GET"), filter)
}

// LastRevision is the revision of the bucket's last change, as the stream's leader knows it.
func (b *Bucket) LastRevision(ctx context.Context) (uint64, error) {
	state, err := b.State(ctx)
	if err != nil {
		return 0, fmt.Errorf("tenant: last revision: %w", err)
	}
	return state.Last, nil
}

// LastNear is Last as the mirror knows it, for who reads that.
func (b *Bucket) LastNear(ctx context.Context, filter string) (Entry, error) {
	return b.last(ctx, ownAPI+".STREAM.MSG.GET."+b.Stream(), filter)
}

func (b *Bucket) last(ctx context.Context, subject, filter string) (Entry, error) {
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Headers []byte `json:"hdrs"`
			Data    []byte `json:"data"`
		} `json:"message"`
	}
	ask, err := json.Marshal(map[string]string{"last_by_subj": b.Subject(filter)})
	if err != nil {
		return Entry{}, fmt.Errorf("tenant: last of %s: %w", filter, err)
	}
	ctx, cancel := b.Try(ctx, attempt, subject)
	defer cancel()
	msg := &nats.Msg{}
	if err = b.AwaitConnected(ctx); err == nil {
		msg, err = b.nc.RequestWithContext(ctx, subject, ask)
	}
	if err == nil {
		err = json.Unmarshal(msg.Data, &answer)
	}
	if err == nil && answer.Error != nil && answer.Error.ErrorCode != jetstream.JSErrCodeMessageNotFound {
		err = answer.Error
	}
	var h nats.Header
	if answer.Message.Headers != nil {
		var bad error
		if h, bad = nats.DecodeHeadersMsg(answer.Message.Headers); bad != nil {
			h = nats.Header{jetstream.StreamHeader: nil} // not written by a client that means well
		}
	}
	if err != nil {
		return Entry{}, fmt.Errorf("tenant: last of %s: %w", filter, b.Explain(ctx, err))
	}
	last := answer.Message
	value, op := content(h, last.Data)
	return Entry{Key: b.Key(last.Subject), Value: value, Revision: last.Seq, Op: op}, nil
}

// content reads what a message does to its key.
//
// Whoever may ask the server for anything in an account can have the answer sent to any subject of it, and so into a bucket that he may
// not write to. An answer says which stream it is from, which no client's write does: it is a put of nothing, whatever it says.
func content(h nats.Header, data []byte) (value []byte, op Op) {
	switch {
	case h == nil:
		return data, Put
	case isAnswer(h):
		return nil, Put
	case h.Get("KV-Operation") == "DEL":
		return nil, Delete
	case h.Get("KV-Operation") == "PURGE":
		return nil, Purge
	case h.Get(jetstream.MarkerReasonHeader) != "":
		return nil, Expire
	}
	return data, Put
}

// contentOf is content of a message as it came. Where nats.go could not read its headers, they are missing, and what they said is not known.
func contentOf(msg *nats.Msg) (value []byte, op Op) {
	if msg.Header == nil && msg.Size() > len(msg.Subject)+len(msg.Reply)+len(msg.Data) {
		return nil, Put
	}
	return content(msg.Header, msg.Data)
}

// isAnswer goes by the header's presence: an answer has those of the message that it shows, too, and they come first.
func isAnswer(h nats.Header) bool { _, ok := h[jetstream.StreamHeader]; return ok }

// expectedOf is the revision that a message's write was to go on top of; nil if it said none of its
// own key. The server has seen to it that it did.
func expectedOf(msg *nats.Msg) *uint64 {
	revision, err := strconv.ParseUint(msg.Header.Get(jetstream.ExpectedLastSubjSeqHeader), 10, 64)
	if _, other := msg.Header[expectedOfAnother]; err != nil || other {
		return nil
	}
	return &revision
}

// expectedOfAnother is the header that has a write expect the revision of another key.
const expectedOfAnother = "Nats-Expected-Last-Subject-Sequence-Subject"

// ttlOf is the time to live that a message gives its key; 0 if it gives none.
func ttlOf(msg *nats.Msg) time.Duration {
	text := msg.Header.Get(jetstream.MsgTTLHeader)
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil { // as some clients write it
		return time.Duration(seconds) * time.Second
	}
	ttl, _ := time.ParseDuration(text)
	return ttl
}
