package stream

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// monitor begins the names of metadata by which "nats server check" and "nats audit" watch a stream
// or a consumer. Nothing of this module reads them, so that buckets with and without them are the
// same to every version.
const monitor = "io.nats.monitor."

// The bounds that monitors warn of.
const (
	lagMost  = "1000"  // writes that a replica or a mirror may be behind
	seenMost = "10s"   // the time for which a replica or a mirror may be silent
	readMost = "10000" // messages that a consumer may be behind
)

// watched is the metadata of a bucket's stream with that many replicas.
func watched(replicas int) map[string]string {
	m := map[string]string{monitor + "enabled": "1"}
	if replicas > 1 { // a monitor takes a stream of one replica for none with expected peers
		m[monitor+"peer-expect"] = strconv.Itoa(replicas)
		m[monitor+"peer-lag-critical"] = lagMost
		m[monitor+"peer-seen-critical"] = seenMost
	}
	return m
}

// Watch has monitors watch a bucket's stream as its replicas and its limit of keys ask for. Other
// bounds that somebody set stay, and so does a monitor that somebody turned off.
func Watch(cfg *jetstream.StreamConfig) {
	metadata := watched(cfg.Replicas)
	for name, value := range cfg.Metadata {
		if name != monitor+"peer-expect" && !strings.HasPrefix(name, monitor+"subjects-") {
			metadata[name] = value
		}
	}
	if keys := KeysOf(*cfg); keys >= 10 {
		metadata[monitor+"subjects-warn"] = strconv.FormatInt(keys*3/4, 10)
		metadata[monitor+"subjects-critical"] = strconv.FormatInt(keys*9/10, 10)
	}
	cfg.Metadata = metadata
}

// Watched reports whether a stream has metadata for monitors.
func Watched(have jetstream.StreamConfig) bool {
	_, ok := have.Metadata[monitor+"enabled"]
	return ok
}

// watchedMirror is the metadata of a mirror.
func watchedMirror() map[string]string {
	return map[string]string{monitor + "enabled": "1", monitor + "lag-critical": lagMost,
		monitor + "seen-critical": seenMost}
}

// WatchedConsumer is the metadata of a consumer that is sent a message at least as often as within
// a time.
func WatchedConsumer(within time.Duration) map[string]string {
	return map[string]string{monitor + "enabled": "1",
		monitor + "unprocessed-critical":   readMost,
		monitor + "last-delivery-critical": within.String()}
}
