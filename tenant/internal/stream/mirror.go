package stream

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// mirrorOf is the name, in a mirror's metadata, of when the bucket was made that it mirrors. A
// server does not notice that a mirrored stream was deleted and recreated: the mirror keeps what
// it had, and takes new messages once they have higher revisions.
const mirrorOf = "kvregistry.mirror_of"

// Mirror is the stream of a mirror of a bucket. api is the prefix of requests to the JetStream
// that has the bucket, and created is when the bucket was made there.
func Mirror(bucket, api string, created time.Time) jetstream.StreamConfig {
	metadata := watchedMirror()
	metadata[mirrorOf] = created.UTC().Format(time.RFC3339Nano)
	return jetstream.StreamConfig{
		Name:              Name(bucket),
		Description:       "kvregistry: services, a mirror",
		MaxMsgsPerSubject: 1,
		MaxConsumers:      MaxConsumers,
		Storage:           jetstream.FileStorage,
		Replicas:          1, // readers that lose the mirror read the hub
		AllowDirect:       true,
		AllowMsgTTL:       true, // otherwise keys that ended stay in the mirror
		Mirror: &jetstream.StreamSource{
			Name: Name(bucket), External: &jetstream.ExternalStream{APIPrefix: api},
		},
		Metadata: metadata,
	}
}

// Made is when the bucket was made that a mirror is of, by the hub's clock; zero if the mirror
// does not say. It is compared with the hub's own time of that alone.
func Made(mirror jetstream.StreamConfig) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, mirror.Metadata[mirrorOf])
	return t
}

// WrongMirror lists the settings by which a mirror does not hold exactly what the bucket holds.
func WrongMirror(bucket string, have jetstream.StreamConfig) (wrong []string) {
	want := func(ok bool, text string) {
		if !ok {
			wrong = append(wrong, text)
		}
	}
	m := have.Mirror
	want(m.Name == Name(bucket), "it mirrors another stream")
	want(m.External != nil && m.External.APIPrefix != "" && m.External.APIPrefix != API,
		"it mirrors no other domain's stream")
	want(m.FilterSubject == "" && len(m.SubjectTransforms) == 0,
		"it mirrors a part, or under other subjects")
	want(have.MaxMsgsPerSubject == 1, "max_msgs_per_subject must be 1")
	want(have.AllowMsgTTL, "allow_msg_ttl must be on")
	want(have.MaxAge == 0 && have.MaxMsgs <= 0 && have.MaxBytes <= 0 && have.MaxMsgSize <= 0,
		"it must have no limits")
	want(!Made(have).IsZero(), "its metadata does not say of which bucket it is ("+mirrorOf+")")
	return wrong
}

// WrongMirrorText is the text of an error about a mirror, with the remedy.
func WrongMirrorText(bucket string, wrong []string) string {
	return "the mirror of " + bucket + ": " + strings.Join(wrong, "; ") +
		"; delete it, and make it by \"kvregistry tenant mirror\" (nothing was changed)"
}
