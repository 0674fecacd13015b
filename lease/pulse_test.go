package lease

import (
	"testing"
	"testing/synctest"
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

// A reaper that heard nothing for a while, as where one long request went through an outage or it stood by, is in doubt when it goes on. Seen to
// fail with a pulse that begins anew each time, by which chaos had living processes reaped 0.5 s after a leader had been elected.
func TestPulseKnowsOfGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pulse{}
		period := beatTime(MinTTL)
		p.begin(period)
		if !p.steady(minHold) {
			t.Error("a newcomer is in doubt")
		}
		time.Sleep(2 * period)
		p.begin(period) // the queue was made anew, say
		p.beat(true)
		if !p.steady(minHold) {
			t.Error("in doubt after a moment")
		}
		time.Sleep(3 * period)
		p.begin(period)
		p.beat(true)
		if p.steady(minHold) {
			t.Error("sure of a time of which nothing is known")
		}
		for range 7 {
			time.Sleep(period)
			p.beat(true)
		}
		if !p.steady(minHold) {
			t.Error("in doubt though all went well for long enough")
		}
	})
}
