package tenant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant/internal/stream"
)

// ownAPI is how requests to the connection's own JetStream begin.
const ownAPI = stream.API

// mirrorStale is how long a mirror may not have heard of its hub, whose word comes every second where nothing is written.
const mirrorStale = 2250 * time.Millisecond

// domain is one JetStream, and how requests to it begin.
type domain struct {
	api string
	js  jetstream.JetStream
}

// mirrored reports whether the connection's JetStream has a mirror only. Whatever is decided by what a leader knows is asked of the hub, for a mirror lags.
func (b *Bucket) mirrored() bool { return b.leads.Load() != &b.own }

// Near asks the connection's own JetStream, for what a mirror serves.
func (b *Bucket) Near() jetstream.JetStream { return b.own.js }

// API is the subject of a request to the bucket's leader, as "STREAM.INFO".
func (b *Bucket) API(request string) string {
	return b.leads.Load().api + "." + request + "." + b.Stream()
}

// Asks are the subjects of requests to the bucket's leader and, where there is one, to its mirror.
func (b *Bucket) Asks(requests ...string) (subjects []string) {
	for _, r := range requests {
		subjects = append(subjects, b.API(r))
		if b.mirrored() {
			subjects = append(subjects, ownAPI+"."+r+"."+b.Stream())
		}
	}
	return subjects
}

// target is the subject that a write to a key is published to. That of a bucket does not cross a leaf node's connection, and that of a hub's API does.
func (b *Bucket) target(key string) string {
	if b.mirrored() {
		return b.leads.Load().api + "." + b.Subject(key)
	}
	return b.Subject(key)
}

// follow takes the hub's bucket for the one to be asked and written to, as a mirror's configuration says where it is.
func (b *Bucket) follow(mirror jetstream.StreamConfig) error {
	if err := checkMirror(b.name, mirror); err != nil {
		return err
	}
	api := mirror.Mirror.External.APIPrefix
	if b.leads.Load().api == api {
		return nil
	}
	js, err := jetstream.NewWithAPIPrefix(b.nc, api)
	if err != nil {
		return err
	}
	b.leads.Store(&domain{api, js})
	return nil
}

// checkMirror compares a mirror with what it must be like to hold exactly what the bucket holds.
func checkMirror(name string, have jetstream.StreamConfig) error {
	if wrong := stream.WrongMirror(name, have); wrong != nil {
		return fmt.Errorf("%w: %s", ErrBucketMismatch, stream.WrongMirrorText(name, wrong))
	}
	return nil
}

// ensureHub checks the hub's bucket. While the hub is away it takes the mirror as it is.
func (b *Bucket) ensureHub(ctx context.Context) error {
	ask, cancel := b.Try(ctx, attempt, b.API("STREAM.INFO"), b.leads.Load().api+".INFO")
	defer cancel()
	var account *jetstream.AccountInfo
	s, err := b.JetStream().Stream(ask, b.Stream())
	if err == nil {
		account, err = b.JetStream().AccountInfo(ask)
	}
	switch err = b.Explain(ask, err); {
	case ctx.Err() == nil && b.HubAway(err):
		b.reached.Store(true)
		return nil
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%w: the hub has no %s: have it made there, and then its mirror anew", ErrBucketNotFound, b.name)
	case err != nil:
		return err
	}
	return b.accept(s.CachedInfo().Config, account)
}

// HubAway reports whether an error of a request to the leader says that the hub of a mirror was not reached.
func (b *Bucket) HubAway(err error) bool {
	return b.mirrored() && (errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)) && !errors.Is(err, ErrPermission)
}

// Mirror is how the mirror stands in the connection's own JetStream.
type Mirror struct {
	Of    time.Time // when the bucket that it is of was made, as the hub says it
	Last  uint64    // its last revision
	Heard time.Time // when it last heard of the hub, by this process's clock; zero: not since its server began
	Lag   uint64    // how many messages the hub had for it then
}

// Fresh reports whether it hears of the hub.
func (m *Mirror) Fresh() bool { return time.Since(m.Heard) < mirrorStale }

// Mirror asks how the mirror stands. It is nil where there is none, or none that can be used.
func (b *Bucket) Mirror(ctx context.Context) *Mirror {
	if !b.mirrored() {
		return nil
	}
	asked := time.Now()
	s, err := b.own.js.Stream(ctx, b.Stream())
	if err != nil {
		return nil
	}
	info := s.CachedInfo()
	if info.Config.Mirror == nil || info.Mirror == nil || checkMirror(b.name, info.Config) != nil {
		return nil
	}
	m := &Mirror{Of: stream.Made(info.Config), Last: info.State.LastSeq, Lag: info.Mirror.Lag}
	if info.Mirror.Active >= 0 {
		m.Heard = asked.Add(-info.Mirror.Active)
	}
	return m
}
