package lease

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A leader that has not heard of a majority acknowledges nothing, though it answers.
func TestQuorate(t *testing.T) {
	of := func(replicas int, active ...time.Duration) *jetstream.StreamInfo {
		info := &jetstream.StreamInfo{Config: jetstream.StreamConfig{Replicas: replicas}, Cluster: &jetstream.ClusterInfo{}}
		for _, a := range active {
			info.Cluster.Replicas = append(info.Cluster.Replicas, &jetstream.PeerInfo{Active: a})
		}
		return info
	}
	for name, test := range map[string]struct {
		info *jetstream.StreamInfo
		want bool
	}{
		"a single server":            {&jetstream.StreamInfo{Config: jetstream.StreamConfig{Replicas: 1}}, true},
		"one replica in a cluster":   {of(1), true},
		"both followers":             {of(3, time.Second, time.Second), true},
		"one of two followers":       {of(3, time.Second, time.Minute), true},
		"no follower":                {of(3, 3*time.Second, time.Minute), false},
		"two of four followers":      {of(5, 0, time.Second, time.Minute, time.Minute), true},
		"one of four followers only": {of(5, 0, time.Minute, time.Minute, time.Minute), false},
	} {
		if got := quorate(test.info); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
