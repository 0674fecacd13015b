package tenant

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant/internal/stream"
)

func TestCheckVersion(t *testing.T) {
	for version, ok := range map[string]bool{
		"2.11.0":      true,
		"2.11":        true,
		"v2.11.4":     true,
		"2.11.0-RC.1": true,
		"2.12.0-dev":  true,
		"2.15.2":      true,
		"2.100.0":     true, // compared as numbers, not as text: 100 is more than 11
		"3.0.0":       true,
		"10.2.0":      true,
		"2.10.29":     false,
		"2.9.99":      false,
		"2.1.11":      false,
		"1.99.0":      false,
		"0.11.0":      false,
		"2":           false,
		"":            false,
		"v":           false,
		"two.eleven":  false,
		"2.x.0":       false,
		"x.11.0":      false,
	} {
		err := CheckVersion(version)
		if ok && err != nil {
			t.Errorf("CheckVersion(%q): %v", version, err)
		}
		if !ok && !errors.Is(err, ErrServerTooOld) {
			t.Errorf("CheckVersion(%q): %v, want ErrServerTooOld", version, err)
		}
		if !ok && !strings.Contains(err.Error(), minVersion) {
			t.Errorf("CheckVersion(%q): %q does not say which version to use", version, err)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	for _, tc := range []struct {
		cfg Config
		ok  bool
	}{
		{Config{}, true},
		{Config{Replicas: 1}, true},
		{Config{Replicas: 3, MaxBytes: 1}, true},
		{Config{Replicas: 5}, true},
		{Config{Replicas: 2}, false},
		{Config{Replicas: -1}, false},
		{Config{Replicas: 7}, false},
		{Config{MaxBytes: -1}, false},
		{Config{MaxValue: 65 << 10}, true},
		{Config{MaxValue: -1}, false},
		{Config{MaxValue: 1 << 31}, false},
	} {
		if err := tc.cfg.validate(); (err == nil) != tc.ok || err != nil &&
			!errors.Is(err, ErrInvalidConfig) {
			t.Errorf("%+v: %v, want ok %v", tc.cfg, err, tc.ok)
		}
	}
}

// usable returns a bucket's stream as the registry creates it.
func usable() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		MaxMsgsPerSubject: 1, AllowMsgTTL: true, SubjectDeleteMarkerTTL: stream.MarkerTTL,
		Storage: jetstream.FileStorage,
		MaxMsgs: -1, MaxBytes: -1, Discard: jetstream.DiscardNew, AllowRollup: true, Replicas: 1,
	}
}

func TestConfigCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg    Config
		change func(*jetstream.StreamConfig)
		wrong  []string // the settings that the error names; none if the bucket is taken
	}{
		"as it is made": {},
		"no limit as 0": {change: func(s *jetstream.StreamConfig) { s.MaxMsgs = 0 }},
		"shortest marker": {change: func(s *jetstream.StreamConfig) {
			s.SubjectDeleteMarkerTTL = time.Second
		}},
		"replicas not asked": {change: func(s *jetstream.StreamConfig) { s.Replicas = 3 }},
		"bytes not asked":    {change: func(s *jetstream.StreamConfig) { s.MaxBytes = 1 << 20 }},
		"replicas as asked": {cfg: Config{Replicas: 3}, change: func(s *jetstream.StreamConfig) {
			s.Replicas = 3
		}},
		"bytes as asked": {cfg: Config{MaxBytes: 1 << 20},
			change: func(s *jetstream.StreamConfig) { s.MaxBytes = 1 << 20 }},
		"other replicas": {cfg: Config{Replicas: 3}, wrong: []string{"replicas"}},
		"values as asked": {cfg: Config{MaxValue: 65 << 10},
			change: func(s *jetstream.StreamConfig) { s.MaxMsgSize = 65 << 10 }},
		"other values": {cfg: Config{MaxValue: 65 << 10}, wrong: []string{"largest value"}},
		"other bytes":  {cfg: Config{MaxBytes: 1 << 20}, wrong: []string{"max bytes"}},
		"a history": {change: func(s *jetstream.StreamConfig) {
			s.MaxMsgsPerSubject = 5
		}, wrong: []string{"history"}},
		"no TTL on keys": {change: func(s *jetstream.StreamConfig) { s.AllowMsgTTL = false },
			wrong: []string{"allow_msg_ttl"}},
		"no markers": {change: func(s *jetstream.StreamConfig) {
			s.SubjectDeleteMarkerTTL = 0
		}, wrong: []string{"marker TTL"}},
		"markers too short": {change: func(s *jetstream.StreamConfig) {
			s.SubjectDeleteMarkerTTL = time.Second - 1
		}, wrong: []string{"marker TTL"}},
		"in memory": {change: func(s *jetstream.StreamConfig) {
			s.Storage = jetstream.MemoryStorage
		}, wrong: []string{"storage"}},
		"keys that age": {change: func(s *jetstream.StreamConfig) { s.MaxAge = time.Hour },
			wrong: []string{"TTL of the bucket"}},
		"keys not asked": {change: func(s *jetstream.StreamConfig) { s.MaxMsgs = 1000 }},
		"keys as asked": {cfg: Config{MaxKeys: 5}, change: func(s *jetstream.StreamConfig) {
			stream.LimitKeys(s, 5)
		}},
		"a largest value": {change: func(s *jetstream.StreamConfig) {
			s.MaxMsgSize = 65 << 10
		}},
		"other keys": {cfg: Config{MaxKeys: 1000}, wrong: []string{"max keys"}},
		"old keys are dropped": {change: func(s *jetstream.StreamConfig) {
			s.Discard = jetstream.DiscardOld
		}, wrong: []string{"discard"}},
		"no purge by message": {change: func(s *jetstream.StreamConfig) { s.AllowRollup = false },
			wrong: []string{"allow_rollup_hdrs"}},
		"a mirror": {change: func(s *jetstream.StreamConfig) {
			s.Mirror = &jetstream.StreamSource{}
		}, wrong: []string{"mirror or source"}},
		"a source": {change: func(s *jetstream.StreamConfig) {
			s.Sources = []*jetstream.StreamSource{{}}
		}, wrong: []string{"mirror or source"}},
		"sealed": {change: func(s *jetstream.StreamConfig) { s.Sealed = true },
			wrong: []string{"sealed"}},
		"two at once": {
			change: func(s *jetstream.StreamConfig) {
				s.MaxMsgsPerSubject, s.MaxAge = 64, time.Minute
			},
			wrong: []string{"history", "TTL of the bucket"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			have := usable()
			if tc.change != nil {
				tc.change(&have)
			}
			err := tc.cfg.check("registry_acme", have)
			if diff := cmp.Diff(tc.wrong, named(err)); diff != "" {
				t.Errorf("settings named (-want +got):\n%s\n%v", diff, err)
			}
			if err != nil && (!errors.Is(err, ErrBucketMismatch) ||
				!strings.Contains(err.Error(), "registry_acme")) {
				t.Errorf("%v does not wrap ErrBucketMismatch, or does not name the bucket", err)
			}
		})
	}
}

// named returns the settings in a mismatch's text, each as "<setting> is <have>, must be <want>".
func named(err error) (settings []string) {
	if err == nil {
		return nil
	}
	_, list, _ := strings.Cut(err.Error(), "registry_acme: ")
	for _, one := range strings.Split(list, "; ") {
		if setting, _, ok := strings.Cut(one, " is "); ok {
			settings = append(settings, setting)
		}
	}
	return settings
}
