package tenant

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
)

// A missing message ends a feed, whether the next message or a heartbeat shows it. Seen to fail
// with a feed that does not compare the consumer's numbers, and with one that does not compare
// revisions.
func TestGapEndsTheFeed(t *testing.T) {
	t.Parallel()
	b, err := New(natstest.Start(t).Connect(), "test", Config{})
	if err != nil {
		t.Fatal(err)
	}
	at := func(number, revision int) *nats.Msg {
		return &nats.Msg{
			Subject: b.subjectOf("svc.a.1"), Sub: &nats.Subscription{}, Data: []byte("x"),
			Reply: fmt.Sprintf("$JS.ACK.KV_registry_test.view.1.%d.%d.1.5", revision, number),
		}
	}
	message := func(number int) *nats.Msg { return at(number, 100+number) }
	sign := func(last int) *nats.Msg {
		return &nats.Msg{Header: nats.Header{"Status": {"100"},
			"Nats-Last-Consumer": {fmt.Sprint(last)}, "Nats-Last-Stream": {"110"}}}
	}
	for name, tt := range map[string]struct {
		messages []*nats.Msg
		want     []string
	}{
		"none": {[]*nats.Msg{message(1), message(2), sign(2), message(3)},
			[]string{"101", "102", "mark 110", "103"}},
		"between two messages": {[]*nats.Msg{message(1), message(3), message(4)},
			[]string{"101", "lost"}},
		"the first": {[]*nats.Msg{message(2)}, []string{"lost"}},
		"the last": {[]*nats.Msg{message(1), sign(2), message(2)},
			[]string{"101", "lost"}},
		"one that comes twice": {[]*nats.Msg{message(1), message(1)}, []string{"101", "lost"}},
		"one that is older": {[]*nats.Msg{message(1), message(2), at(3, 101)},
			[]string{"101", "102", "lost"}},
		"one that says nothing": {[]*nats.Msg{{Subject: b.subjectOf("svc.a.1"), Data: []byte("x"),
			Sub: &nats.Subscription{}}}, []string{"lost"}},
	} {
		var got []string
		f := &Feed{bucket: b, opened: time.Now(), cfg: FeedConfig{
			Message: func(m Message) { got = append(got, fmt.Sprint(m.Revision)) },
			Mark:    func(upTo uint64) { got = append(got, fmt.Sprint("mark ", upTo)) },
			Lost:    func(error) { got = append(got, "lost") },
		}}
		for _, msg := range tt.messages {
			f.receive(msg)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("missing %s: got %v, want %v", name, got, tt.want)
		}
	}
}
