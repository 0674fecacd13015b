package lease

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"crypto/ed25519"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// Only its own process keeps a keyed lease. Nobody else renews it or brings it back: not before its
// end, not after it, not for a reaper that comes later. Seen to fail with heartbeats whose
// signature is not checked.
func TestKeyedLease(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := newBucket(t, s)
	r := newReaper(t, b)
	r.Start()
	serves(t, r)
	const ttl = 2 * MinTTL
	k := newKeeper(t, b, KeeperConfig{TTL: ttl, Keyed: true, Value: []byte(`{"format":1}`)})
	l := held(t, k)
	const key = "svc.web.a"
	put(t, b, key, l.ID)
	lease := tenant.LeaseKey(l.ID)
	last := func() tenant.Entry {
		e, err := b.Last(t.Context(), lease)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	// This watches for what must not happen.
	for begun := time.Now(); time.Since(begun) < 3*ttl; time.Sleep(ttl / 20) {
		if l.Err() != nil || !has(t, b, key) {
			t.Fatalf("it is over while it is renewed: %v", l.Err())
		}
	}
	if err := k.Close(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	heartbeat := last().Value
	keeps := func() { // what another user can do
		e := last()
		_, _ = b.Write(t.Context(), tenant.Write{Key: lease, Value: heartbeat, TTL: ttl,
			If: tenant.At(e.Revision)})
	}
	ends := func(what string) {
		t.Helper()
		natstest.Eventually(t, 2*natstest.Soon, func() error {
			if keeps(); has(t, b, key) {
				return fmt.Errorf("%s: it is kept alive", what)
			}
			return nil
		})
	}
	ends("by another process, before it has ended")
	put(t, b, key, l.ID)
	ends("by another process that brings it back")
	r.Close()
	keeps()
	put(t, b, key, l.ID)
	late := newReaper(t, b)
	late.Start()
	ends("for a reaper that comes later")
}

// A heartbeat's message has the same length for every revision. A full bucket takes no message that
// is longer than the one before. Seen to fail with values that are not padded.
func TestRenewalsHaveOneLength(t *testing.T) {
	t.Parallel()
	size := func(on uint64) int {
		return len(padded([]byte("x"), on)) + len(strconv.FormatUint(on, 10))
	}
	for on := uint64(0); on < math.MaxUint64/10; on = 10*on + 7 {
		if size(on) != size(0) {
			t.Errorf("on top of revision %d it has %d bytes, on top of 0 %d", on, size(on), size(0))
		}
	}
}

// The signature of a heartbeat covers all of it. Seen to fail with a statement without the
// revision, and without the TTL.
func TestHeartbeatsSignature(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	r := newReaper(t, b)
	id, key := newKeyed()
	other, otherKey := newKeyed()
	signed := func(by ed25519.PrivateKey, bucket, id string, on uint64, ttl time.Duration) []byte {
		return fmt.Appendf(nil, `{"signature":"%s"}  `,
			base64.StdEncoding.EncodeToString(ed25519.Sign(by, statement(bucket, id, on, ttl))))
	}
	good := signed(key, b.Name(), id, 7, MinTTL)
	for what, tt := range map[string]struct {
		id    string
		value []byte
		on    *uint64
		ttl   time.Duration
		want  bool
	}{
		"its own":              {id, good, tenant.At(7), MinTTL, true},
		"on another revision":  {id, good, tenant.At(8), MinTTL, false},
		"on nothing":           {id, good, tenant.At(0), MinTTL, false},
		"on whatever is there": {id, good, nil, MinTTL, false},
		"for longer":           {id, good, tenant.At(7), 2 * MinTTL, false},
		"for ever":             {id, good, tenant.At(7), 0, false},
		"of another lease":     {other, good, tenant.At(7), MinTTL, false},
		"by another": {id, signed(otherKey, b.Name(), id, 7, MinTTL), tenant.At(7),
			MinTTL, false},
		"in another bucket": {id, signed(key, "registry_x", id, 7, MinTTL), tenant.At(7),
			MinTTL, false},
		"not signed":           {id, []byte(`{"format":1}`), tenant.At(7), MinTTL, false},
		"no JSON":              {id, []byte("x"), tenant.At(7), MinTTL, false},
		"of a lease not keyed": {"ABC", []byte("x"), nil, MinTTL, true},
		"of a name like a key": {id[:51], []byte("x"), nil, MinTTL, true},
		"of a lease of another": {other, signed(otherKey, b.Name(), other, 0, MaxTTL), tenant.At(0),
			MaxTTL, true},
	} {
		if got := r.grants(tt.id, watcher.Change{Value: tt.value, If: tt.on,
			TTL: tt.ttl}); got != tt.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}
