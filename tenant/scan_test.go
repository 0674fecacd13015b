package tenant

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
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

// Scan misses no key, however many are written while it reads. Seen to fail if the first key that
// was written meanwhile ends it.
func TestScanMissesNoKey(t *testing.T) {
	t.Parallel()
	b, err := New(natstest.Start(t).Connect(), "acme", Config{})
	if err == nil {
		err = b.Ensure(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	const all = 300
	ws := make([]Write, all)
	for i := range ws {
		ws[i] = Write{Key: LeaseKey(fmt.Sprint("L", i)), Value: []byte("v"), TTL: time.Minute}
	}
	if _, errs := b.WriteAll(t.Context(), ws); errors.Join(errs...) != nil {
		t.Fatal(errs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer func() { cancel(); writers.Wait() }()
	for range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				_, _ = b.Write(ctx, ws[rand.IntN(all)])
			}
		})
	}
	for range 20 {
		bound, stop := context.WithTimeout(t.Context(), natstest.Soon)
		keys := map[string]bool{}
		_, err := b.Scan(bound, AllLeases, func(m Message) { keys[m.Key] = true })
		stop()
		if err != nil || len(keys) != all {
			t.Fatalf("%d of %d keys, %v", len(keys), all, err)
		}
	}
}
