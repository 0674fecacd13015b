package tenant

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestServerVersion(t *testing.T) {
	for version, ok := range map[string]bool{
		"2.11.0": true, "2.15.2": true, "2.12.0-RC.1": true, "3.0.0": true, "v2.11.4": true,
		"2.10.29": false, "2.9": false, "1.99.0": false, "": false, "new": false, "2": false,
	} {
		if err := checkVersion(version); (err == nil) != ok || err != nil && !errors.Is(err, ErrServerTooOld) {
			t.Errorf("%q: %v", version, err)
		}
	}
}

// An existing bucket is checked setting by setting, and what differs is named.
func TestExistingBucketIsChecked(t *testing.T) {
	good := jetstream.StreamConfig{
		MaxMsgsPerSubject: 1, AllowMsgTTL: true, SubjectDeleteMarkerTTL: MarkerTTL, Storage: jetstream.FileStorage, MaxMsgs: -1,
		Discard: jetstream.DiscardNew, AllowRollup: true, Replicas: 3, MaxBytes: 1000,
	}
	if err := (Config{}).check("b", good); err != nil {
		t.Errorf("the bucket as it is made: %v", err)
	}
	if err := (Config{Replicas: 3, MaxBytes: 1000}).check("b", good); err != nil {
		t.Errorf("the bucket as it was asked for: %v", err)
	}
	for word, change := range map[string]func(*jetstream.StreamConfig){
		"history":       func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 },
		"allow_msg_ttl": func(c *jetstream.StreamConfig) { c.AllowMsgTTL = false },
		"marker TTL":    func(c *jetstream.StreamConfig) { c.SubjectDeleteMarkerTTL = 0 },
		"storage":       func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"TTL of":        func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"max messages":  func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 },
		"discard":       func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"rollup":        func(c *jetstream.StreamConfig) { c.AllowRollup = false },
		"mirror":        func(c *jetstream.StreamConfig) { c.Mirror = &jetstream.StreamSource{Name: "x"} },
		"sealed":        func(c *jetstream.StreamConfig) { c.Sealed = true },
		"replicas":      func(c *jetstream.StreamConfig) { c.Replicas = 1 },
		"max bytes":     func(c *jetstream.StreamConfig) { c.MaxBytes = 5 },
	} {
		have := good
		change(&have)
		err := (Config{Replicas: 3, MaxBytes: 1000}).check("b", have)
		if !errors.Is(err, ErrBucketMismatch) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
	}
}
