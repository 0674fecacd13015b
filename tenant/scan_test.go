package tenant

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// Scan ends in a bucket that is written without a pause, and ScanFor goes on for its time. Seen to
// fail if only a sign of life of an idle consumer ends it.
func TestScanOfABusyBucket(t *testing.T) {
	t.Parallel()
	b, err := New(natstest.Start(t).Connect(), "acme", Config{})
	if err == nil {
		err = b.Ensure(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		for n := 0; ctx.Err() == nil; n++ {
			w := Write{Key: LeaseKey(fmt.Sprint("L", n%3)), Value: []byte("v"), TTL: time.Minute}
			if _, err := b.Write(ctx, w); err == nil && n == 3 {
				written <- struct{}{}
			}
			time.Sleep(scanBeat / 20) // below the time after which the consumer is idle
		}
	}()
	defer func() { cancel(); <-done }()
	<-written
	bound, stop := context.WithTimeout(t.Context(), natstest.Soon)
	defer stop()
	for _, more := range []time.Duration{0, 10 * scanBeat} {
		keys, messages := map[string]bool{}, 0
		_, err := b.ScanFor(bound, AllLeases, more, func(m Message) {
			keys[m.Key] = true
			messages++
		})
		if err != nil || len(keys) != 3 || more > 0 && messages <= 3 {
			t.Errorf("%d messages of %d keys, %v", messages, len(keys), err)
		}
	}
}
