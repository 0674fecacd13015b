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

// mirrorStale is how long a mirror may not have heard of its hub. The hub sends something each
// second, even if nobody writes.
const mirrorStale = 2250 * time.Millisecond

// domain is one JetStream, and how requests to it begin.
type domain struct {
	api string
	js  jetstream.JetStream
}

// mirrored reports whether the connection's JetStream has only a mirror of the bucket. A mirror
// lags: what a leader must decide is asked of the hub.
func (b *Bucket) mirrored() bool { return b.leads.Load() != &b.own }

// near is the connection's own JetStream, which a mirror may be in.
func (b *Bucket) near() jetstream.JetStream { return b.own.js }

// jetStream is the JetStream of the bucket's leader: the hub's if there is a mirror.
func (b *Bucket) jetStream() jetstream.JetStream { return b.leads.Load().js }

// api is the subject of a request to the bucket's leader, as "STREAM.INFO".
func (b *Bucket) api(request string) string {
	return b.leads.Load().api + "." + request + "." + b.stream
}

// target is the subject that a write to a key is published to. A bucket's subjects do not cross a
// leaf node's connection, and those of a hub's API do.
func (b *Bucket) target(key string) string {
	if b.mirrored() {
		return b.leads.Load().api + "." + b.subjectOf(key)
	}
	return b.subjectOf(key)
}

// follow sends requests and writes to the hub's bucket from now on. The mirror names the hub.
func (b *Bucket) follow(mirror jetstream.StreamConfig) error {
	if wrong := stream.WrongMirror(b.name, mirror); wrong != nil {
		return fmt.Errorf("%w: %s", ErrBucketMismatch, stream.WrongMirrorText(b.name, wrong))
	}
	api := mirror.Mirror.External.APIPrefix
	if b.leads.Load().api == api {
		return nil
	}
	js, err := jetstream.NewWithAPIPrefix(b.nc, api)
	if err == nil {
		b.leads.Store(&domain{api, js})
	}
	return err
}

// ensureHub checks the hub's bucket. While the hub is away it takes the mirror as it is.
func (b *Bucket) ensureHub(ctx context.Context) error {
	var s jetstream.Stream
	var account *jetstream.AccountInfo
	err := b.Do(ctx, attempt, func(ctx context.Context) (err error) {
		if s, err = b.jetStream().Stream(ctx, b.stream); err == nil {
			account, err = b.jetStream().AccountInfo(ctx)
		}
		return err
	}, b.api("STREAM.INFO"), b.leads.Load().api+".INFO")
	switch {
	case ctx.Err() == nil && b.HubAway(err):
		b.reached.Store(true)
		return nil
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%w: the hub has no %s: have it made there, and then recreate its mirror",
			ErrBucketNotFound, b.name)
	case err != nil:
		return err
	}
	return b.accept(s.CachedInfo().Config, account)
}

// HubAway reports whether an error of a request to the leader says that the hub of a mirror was
// not reached.
func (b *Bucket) HubAway(err error) bool {
	if !b.mirrored() || errors.Is(err, ErrPermission) {
		return false
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
}

// Mirror is how the mirror stands in the connection's own JetStream.
type Mirror struct {
	Of    time.Time // when its bucket was made, by the hub's clock
	Last  uint64    // its last revision
	Heard time.Time // when it last heard of the hub, by this process's clock; zero: never
	Lag   uint64    // how many messages the hub had for it then
}

// Fresh reports whether the mirror hears of the hub.
func (m *Mirror) Fresh() bool { return time.Since(m.Heard) < mirrorStale }

// Mirror asks how the mirror stands. It returns nil if there is none, or none that can be used.
func (b *Bucket) Mirror(ctx context.Context) *Mirror {
	if !b.mirrored() {
		return nil
	}
	asked := time.Now()
	s, err := b.own.js.Stream(ctx, b.stream)
	if err != nil {
		return nil
	}
	info := s.CachedInfo()
	if info.Config.Mirror == nil || info.Mirror == nil ||
		stream.WrongMirror(b.name, info.Config) != nil {
		return nil
	}
	m := &Mirror{Of: stream.Made(info.Config), Last: info.State.LastSeq, Lag: info.Mirror.Lag}
	if info.Mirror.Active >= 0 {
		m.Heard = asked.Add(-info.Mirror.Active)
	}
	return m
}
