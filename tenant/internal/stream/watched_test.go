package stream

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
)

// The metadata for monitors follows the replicas and the limit of keys, and keeps what others set.
// Seen to fail if a bound that somebody set is overwritten, and with peer-expect of one replica.
func TestWatch(t *testing.T) {
	t.Parallel()
	const m = monitor
	peers := map[string]string{m + "enabled": "1", m + "peer-expect": "3",
		m + "peer-lag-critical": lagMost, m + "peer-seen-critical": seenMost}
	for name, tc := range map[string]struct {
		replicas int
		keys     int64
		have     map[string]string
		want     map[string]string
	}{
		"one replica":    {1, 0, nil, map[string]string{m + "enabled": "1"}},
		"three replicas": {3, 0, nil, peers},
		"from three to one": {1, 0, map[string]string{m + "enabled": "1", m + "peer-expect": "3"},
			map[string]string{m + "enabled": "1"}},
		"turned off, with a bound": {1, 0,
			map[string]string{m + "enabled": "0", m + "msgs-warn": "7", "other": "x"},
			map[string]string{m + "enabled": "0", m + "msgs-warn": "7", "other": "x"}},
		"keys": {1, 100, nil, map[string]string{m + "enabled": "1", maxKeys: "100",
			m + "subjects-warn": "75", m + "subjects-critical": "90"}},
		"no more keys": {1, 0,
			map[string]string{m + "subjects-warn": "75", m + "subjects-critical": "90"},
			map[string]string{m + "enabled": "1"}},
	} {
		cfg := jetstream.StreamConfig{Replicas: tc.replicas, Metadata: tc.have}
		LimitKeys(&cfg, tc.keys)
		Watch(&cfg)
		if diff := cmp.Diff(tc.want, cfg.Metadata); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}
