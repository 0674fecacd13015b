package tenant

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
)

// Each of many writes, more than wait for their answers at once, comes to what it would alone. Seen
// to fail without the limit.
func TestWriteAll(t *testing.T) {
	t.Parallel()
	b, err := New(natstest.Start(t).Connect(), "default", Config{})
	if err == nil {
		err = b.Ensure(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	ws := make([]Write, 3*underWay)
	var revisions []uint64
	var errs []error
	for try := range 3 { // a disk may hang for longer than the writes may take
		for i := range ws {
			ws[i] = Write{Key: fmt.Sprintf("svc.try-%d.%d", try, i), Value: fmt.Append(nil, i),
				If: At(0)}
			if i%3 == 1 {
				ws[i].If = At(9)
			}
		}
		revisions, errs = b.WriteAll(t.Context(), ws)
		if !errors.Is(errors.Join(errs...), context.DeadlineExceeded) {
			break
		}
		t.Log("the server did not answer in time:", try)
	}
	for i, w := range ws {
		e, found, err := b.Get(t.Context(), w.Key)
		switch {
		case err != nil:
			t.Fatal(err)
		case i%3 == 1:
			if !errors.Is(errs[i], ErrConflict) || found {
				t.Fatalf("%s: %v, found: %t", w.Key, errs[i], found)
			}
		case errs[i] != nil, e.Revision != revisions[i], string(e.Value) != fmt.Sprint(i):
			t.Fatalf("%s: %v, revision %d, stands %d %s", w.Key, errs[i], revisions[i], e.Revision,
				e.Value)
		}
	}
}

// What is no acknowledgement is an error. Seen to fail with an answer whose revision is 0 that
// counts as done.
func TestAcknowledged(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint64{
		``: 0, `x`: 0, `{}`: 0, `null`: 0, `{"stream":"s"}`: 0, `{"seq":-1}`: 0, `[]`: 0,
		`{"error":{"code":400,"err_code":10071,"description":"d"}}`: 0,
		`{"stream":"s","seq":7}`:                                    7,
	} {
		got, err := acknowledged(&nats.Msg{Data: []byte(text)})
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}
