package tenant

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ownAPI is how requests to the connection's own JetStream begin.
const ownAPI = "$JS.API"

// mirrorOf is the name, in the metadata of a mirror, of when the bucket that it mirrors was made. A server does not notice that a mirrored stream was
// deleted and made anew: the mirror keeps what it had, and takes what is new once that has higher revisions.
const mirrorOf = "kvregistry.mirror_of"

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

// checkMirror compares a mirror with what it must be like to hold just what the bucket holds.
func checkMirror(name string, have jetstream.StreamConfig) error {
	var wrong []string
	want := func(ok bool, text string) {
		if !ok {
			wrong = append(wrong, text)
		}
	}
	m := have.Mirror
	want(m.Name == "KV_"+name, "it mirrors another stream")
	want(m.External != nil && m.External.APIPrefix != "" && m.External.APIPrefix != ownAPI, "it mirrors no other domain's stream")
	want(m.FilterSubject == "" && len(m.SubjectTransforms) == 0, "it mirrors a part, or under other subjects")
	want(have.MaxMsgsPerSubject == 1, "max_msgs_per_subject must be 1")
	want(have.AllowMsgTTL, "allow_msg_ttl must be on")
	want(have.MaxAge == 0 && have.MaxMsgs <= 0 && have.MaxBytes <= 0 && have.MaxMsgSize <= 0, "it must have no limits")
	want(!made(have).IsZero(), "its metadata does not say of which bucket it is ("+mirrorOf+")")
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("%w: the mirror of %s: %s; delete it, and make it by \"kvregistry tenant mirror\" (nothing was changed)",
		ErrBucketMismatch, name, strings.Join(wrong, "; "))
}

// made is when the bucket was made that a mirror is of, by the hub's clock. It is compared with the hub's word for it only.
func made(mirror jetstream.StreamConfig) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, mirror.Metadata[mirrorOf])
	return t
}

// ensureHub checks the hub's bucket. While the hub is away it takes the mirror as it is.
func (b *Bucket) ensureHub(ctx context.Context) error {
	ask, cancel := b.Try(ctx, attempt, b.API("STREAM.INFO"), b.leads.Load().api+".INFO")
	defer cancel()
	var account *jetstream.AccountInfo
	stream, err := b.JetStream().Stream(ask, b.Stream())
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
	return b.accept(stream.CachedInfo().Config, account)
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
	stream, err := b.own.js.Stream(ctx, b.Stream())
	if err != nil {
		return nil
	}
	info := stream.CachedInfo()
	if info.Config.Mirror == nil || info.Mirror == nil || checkMirror(b.name, info.Config) != nil {
		return nil
	}
	m := &Mirror{Of: made(info.Config), Last: info.State.LastSeq, Lag: info.Mirror.Lag}
	if info.Mirror.Active >= 0 {
		m.Heard = asked.Add(-info.Mirror.Active)
	}
	return m
}

// apiOf is how requests to a domain begin.
func apiOf(domain string) (string, error) {
	if domain == "" || strings.ContainsAny(domain, ".*> \t\r\n") {
		return "", fmt.Errorf("%w: %q is no JetStream domain", ErrInvalidConfig, domain)
	}
	return "$JS." + domain + ".API", nil
}

// AtLeaf gives the access to a user of a leaf node whose own JetStream has a mirror of the tenant's bucket: to the hub's, too. The error wraps [ErrInvalidConfig].
func (a Access) AtLeaf(hubDomain string) (Access, error) {
	api, err := apiOf(hubDomain)
	if err != nil {
		return Access{}, fmt.Errorf("tenant: %w", err)
	}
	both := func(list []string) (all []string) {
		for _, subject := range list {
			all = append(all, subject)
			if rest, ok := strings.CutPrefix(subject, ownAPI+"."); ok {
				all = append(all, api+"."+rest)
			} else if strings.HasPrefix(subject, "$KV.") {
				all = append(all, api+"."+subject)
			}
		}
		return all
	}
	a.Publish = both(a.Publish)
	return a, nil
}

// MakeMirror makes a mirror of a tenant's bucket in the connection's own JetStream, that of a leaf node, and so in its domain. The bucket is there already, in
// the domain of the hub. A mirror of a bucket that was deleted and made anew since is replaced. Errors wrap [ErrInvalidTenant], [ErrInvalidConfig],
// [ErrBucketNotFound], [ErrBucketMismatch] or [ErrPermission].
func MakeMirror(ctx context.Context, nc *nats.Conn, tenant, hubDomain string) error {
	b, err := New(nc, tenant, Config{})
	if err != nil {
		return err
	}
	api, err := apiOf(hubDomain)
	if err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	hub, err := jetstream.NewWithAPIPrefix(nc, api)
	if err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	ctx, cancel := b.Try(ctx, adminTime, api+".STREAM.INFO."+b.Stream(), "$JS.API.STREAM.INFO."+b.Stream(), "$JS.API.STREAM.CREATE."+b.Stream(), "$JS.API.STREAM.DELETE."+b.Stream())
	defer cancel()
	if err := b.makeMirror(ctx, domain{api, hub}); err != nil {
		return fmt.Errorf("tenant: mirror %s: %w", tenant, b.Explain(ctx, err))
	}
	return nil
}

func (b *Bucket) makeMirror(ctx context.Context, hub domain) error {
	origin, err := hub.js.Stream(ctx, b.Stream())
	if err != nil {
		return err
	}
	info := origin.CachedInfo()
	if err := b.cfg.check(b.name, info.Config); err != nil {
		return err
	}
	cfg := jetstream.StreamConfig{
		Name:              b.Stream(),
		Description:       "kvregistry: services, a mirror",
		MaxMsgsPerSubject: 1,
		MaxConsumers:      maxConsumers,
		Storage:           jetstream.FileStorage,
		Replicas:          1, // who loses it reads the hub
		AllowDirect:       true,
		AllowMsgTTL:       true, // or what has ended stays in the mirror
		Mirror:            &jetstream.StreamSource{Name: b.Stream(), External: &jetstream.ExternalStream{APIPrefix: hub.api}},
		Metadata:          map[string]string{mirrorOf: info.Created.UTC().Format(time.RFC3339Nano)},
	}
	have, err := b.own.js.Stream(ctx, b.Stream())
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
	case err != nil:
		return err
	case have.CachedInfo().Config.Mirror == nil:
		return fmt.Errorf("%w: %s is a bucket of its own in this domain", ErrBucketMismatch, b.name)
	case made(have.CachedInfo().Config).Equal(made(cfg)) && have.CachedInfo().Config.Mirror.External != nil && have.CachedInfo().Config.Mirror.External.APIPrefix == hub.api:
		return checkMirror(b.name, have.CachedInfo().Config)
	default: // of a bucket that is no more
		if err := b.own.js.DeleteStream(ctx, b.Stream()); err != nil {
			return err
		}
	}
	_, err = b.createStream(ctx, cfg)
	return err
}
