package stream

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Setting is a setting of a stream with which no bucket works.
type Setting struct {
	Name       string
	Have, Want string
	// Flag is the argument of "nats stream edit" that mends it. It is empty if the server changes
	// no such setting of a stream that is there.
	Flag string
}

// String says what is wrong.
func (s Setting) String() string { return s.Name + " is " + s.Have + ", must be " + s.Want }

// Differences lists the settings of a stream with which no bucket works.
func Differences(have jetstream.StreamConfig) (list []Setting) {
	want := func(ok bool, name string, have, want any, flag string) {
		if !ok {
			list = append(list, Setting{name, fmt.Sprint(have), fmt.Sprint(want), flag})
		}
	}
	want(have.MaxMsgsPerSubject == 1, "history", have.MaxMsgsPerSubject, 1,
		"--max-msgs-per-subject=1")
	want(have.AllowMsgTTL, "allow_msg_ttl", have.AllowMsgTTL, true, "--allow-msg-ttl")
	want(have.SubjectDeleteMarkerTTL >= time.Second, "marker TTL", have.SubjectDeleteMarkerTTL,
		"1s or longer, as "+MarkerTTL.String(), "--subject-del-markers-ttl="+MarkerTTL.String())
	want(have.Storage == jetstream.FileStorage, "storage", have.Storage, jetstream.FileStorage, "")
	want(have.MaxAge == 0, "TTL of the bucket", have.MaxAge, 0, "--max-age=0s")
	want(have.Discard == jetstream.DiscardNew, "discard", have.Discard, jetstream.DiscardNew,
		"--discard=new")
	want(have.AllowRollup, "allow_rollup_hdrs", have.AllowRollup, true, "--allow-rollup")
	want(have.Mirror == nil && len(have.Sources) == 0, "mirror or source", "set", "none", "")
	want(!have.Sealed, "sealed", have.Sealed, false, "")
	return list
}

// Wrong is the text of [Differences].
func Wrong(have jetstream.StreamConfig) (wrong []string) {
	for _, s := range Differences(have) {
		wrong = append(wrong, s.String())
	}
	return wrong
}
