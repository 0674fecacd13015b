package tenant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant/internal/stream"
)

// Config says how a tenant's bucket is made. The zero value serves. A limit of 0 is none in a new
// bucket, and takes an existing bucket as it is.
type Config struct {
	Replicas int   // 1, 3 or 5; 0: 1 on a single server and 3 in a cluster
	MaxBytes int64 // the bucket's largest size in bytes
	MaxKeys  int64 // its largest number of keys, with those that ended in the last 10 minutes
	MaxValue int64 // the longest value that the server takes, in bytes with its headers

	ForceReconnect bool // a connection that does not answer is made again: see [Bucket.Revive]
}

func (c Config) replicas(nc *nats.Conn) int {
	switch {
	case c.Replicas != 0:
		return c.Replicas
	case nc.ConnectedClusterName() != "":
		return 3
	default:
		return 1
	}
}

// largest is the largest limit of keys or bytes: it can be multiplied by the replicas.
const largest = 1 << 60

func (c Config) validate() error {
	switch {
	case c.Replicas != 0 && c.Replicas != 1 && c.Replicas != 3 && c.Replicas != 5:
		return fmt.Errorf("tenant: %w: %d replicas; use 1, 3 or 5", ErrInvalidConfig, c.Replicas)
	case c.MaxBytes < 0 || c.MaxBytes > largest:
		return fmt.Errorf("tenant: %w: %d bytes; use 0 for no limit, or up to 1<<60",
			ErrInvalidConfig, c.MaxBytes)
	case c.MaxValue < 0 || c.MaxValue > math.MaxInt32:
		return fmt.Errorf("tenant: %w: values of %d bytes; use 0 for no limit, or up to 1<<31-1",
			ErrInvalidConfig, c.MaxValue)
	case c.MaxKeys < 0 || c.MaxKeys > largest:
		return fmt.Errorf("tenant: %w: %d keys; use 0 for no limit, or up to 1<<60",
			ErrInvalidConfig, c.MaxKeys)
	}
	return nil
}

// Bucket is a tenant's key-value bucket. Any number of goroutines may use it.
type Bucket struct {
	nc      *nats.Conn
	own     domain                 // the connection's JetStream
	leads   atomic.Pointer[domain] // of the leader: own, or the hub's if own has a mirror
	name    string
	stream  string
	cfg     Config
	reached atomic.Bool                            // by the first Ensure that succeeds
	made    atomic.Pointer[time.Time]              // when Ensure last made it
	found   atomic.Pointer[jetstream.StreamConfig] // the bucket, as Ensure last saw it

	room     room     // what is left of its limits
	refusals sync.Map // what the server refused, to refused

	reviving sync.Mutex // held by Revive and Move; guards unheard
	unheard  time.Time  // when a connection that got no answers was last made again
}

// New names the bucket of a tenant on a connection, which stays the caller's. It sends nothing:
// [Bucket.Ensure] does. Errors wrap [ErrInvalidTenant], [ErrInvalidConfig] or
// [ErrConnectionClosed].
func New(nc *nats.Conn, tenant string, cfg Config) (*Bucket, error) {
	name, err := BucketName(tenant)
	if err != nil {
		return nil, fmt.Errorf("tenant: %w", err)
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if nc.IsClosed() {
		return nil, fmt.Errorf("tenant: %w", closed(nc))
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("tenant: %w", err)
	}
	b := &Bucket{nc: nc, own: domain{ownAPI, js}, name: name, stream: stream.Name(name), cfg: cfg}
	b.leads.Store(&b.own)
	b.room.turn = make(chan struct{}, 1)
	b.room.turn <- struct{}{}
	return b, nil
}

// Made is when [Bucket.Ensure] last made the bucket, by this process's clock; zero if it was
// there.
func (b *Bucket) Made() time.Time {
	if at := b.made.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Name is the bucket's name, "registry_" and the tenant's.
func (b *Bucket) Name() string { return b.name }

// subjectOf is the subject that a key, or a filter of keys, has in the stream.
func (b *Bucket) subjectOf(key string) string { return "$KV." + b.name + "." + key }

// keyOf is the inverse of subjectOf.
func (b *Bucket) keyOf(subject string) string {
	return strings.TrimPrefix(subject, b.subjectOf(""))
}

// Ensure checks the server, and makes the bucket or checks the one that is there. It changes
// nothing about a bucket that it finds. Any number of processes may call it at once. It waits for
// the connection, and then for a few seconds at most. [Bucket.Advice] then says what should be
// changed. If the connection's JetStream has a mirror of the bucket, Ensure checks the hub's
// bucket and never makes it; it does not while the hub is away.
//
// Errors say what is wrong and what to do. They wrap [ErrServerTooOld], [ErrJetStreamDisabled],
// [ErrPermission], [ErrStorageFull], [ErrInvalidConfig], [ErrBucketMismatch],
// [ErrConnectionClosed] or, if the server did not answer in time, the context's error.
func (b *Bucket) Ensure(ctx context.Context) error {
	err := b.AwaitConnected(ctx)
	if err == nil {
		err = b.Do(ctx, 2*attempt, b.ensure, b.api("STREAM.INFO"),
			ownAPI+".STREAM.INFO."+b.stream, ownAPI+".INFO", b.creates())
	}
	if err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	return nil
}

// creates is the subject of the request that makes the bucket.
func (b *Bucket) creates() string { return ownAPI + ".STREAM.CREATE." + b.stream }

func (b *Bucket) ensure(ctx context.Context) error {
	if err := CheckVersion(b.nc.ConnectedServerVersion()); err != nil {
		return err
	}
	account, err := b.own.js.AccountInfo(ctx) // its error says whether JetStream is off
	if err != nil {
		return err
	}
	s, err := b.own.js.Stream(ctx, b.stream)
	switch {
	case err == nil && s.CachedInfo().Config.Mirror != nil:
		if err := b.follow(s.CachedInfo().Config); err != nil {
			return err
		}
		return b.ensureHub(ctx)
	case errors.Is(err, jetstream.ErrStreamNotFound) && b.mirrored(): // somebody deleted the mirror
		return b.ensureHub(ctx)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		if b.isRefused(theBucket) || !b.may(ctx, b.creates()) {
			return b.missing()
		}
		if s, err = b.create(ctx); errors.Is(context.Cause(ctx), ErrPermission) {
			b.remember(theBucket)
			return b.missing()
		}
	}
	if err != nil {
		return err
	}
	return b.accept(s.CachedInfo().Config, account)
}

// missing says that somebody else has to make the bucket.
func (b *Bucket) missing() error {
	return fmt.Errorf("%w: bucket %s is not there, and this user may not make it (%w); "+
		"have an admin make it: kvregistry tenant create %s",
		ErrBucketNotFound, b.name, ErrPermission, strings.TrimPrefix(b.name, "registry_"))
}

// accept checks the bucket, and learns its limits.
func (b *Bucket) accept(cfg jetstream.StreamConfig, account *jetstream.AccountInfo) error {
	if err := b.cfg.check(b.name, cfg); err != nil {
		return err
	}
	b.learn(cfg)
	_, most := storage(account, cfg.Replicas)
	b.room.account.Store(most > 0)
	b.found.Store(&cfg)
	b.reached.Store(true)
	return nil
}

// Advice says what an administrator should change about the server and the bucket, as
// [Bucket.Ensure] last found them: a sentence each, with the remedy. It is empty if all is well.
func (b *Bucket) Advice() []string {
	have := b.found.Load()
	if have == nil {
		return nil
	}
	return stream.Advice(b.nc.ConnectedServerVersion(), b.name, *have)
}

// create makes the bucket with its limits, or takes the one that another process made first.
func (b *Bucket) create(ctx context.Context) (jetstream.Stream, error) {
	cfg := stream.Config(b.name)
	cfg.MaxBytes = cmp.Or(b.cfg.MaxBytes, cfg.MaxBytes)
	cfg.MaxMsgSize = cmp.Or(int32(b.cfg.MaxValue), cfg.MaxMsgSize)
	cfg.Replicas = b.cfg.replicas(b.nc)
	stream.LimitKeys(&cfg, b.cfg.MaxKeys)
	stream.Watch(&cfg)
	made, err := stream.Create(ctx, b.own.js, cfg)
	if err != nil {
		return nil, err
	}
	if now := time.Now(); made {
		b.made.Store(&now)
	}
	return b.own.js.Stream(ctx, b.stream)
}

// check compares an existing bucket with what the registry relies on and the caller asked for.
func (c Config) check(name string, have jetstream.StreamConfig) error {
	wrong := stream.Wrong(have)
	remedy := "change it by hand, or take another tenant"
	limits := wrong == nil // only limits can differ, which the command changes
	if limits {
		remedy = "run kvregistry tenant change " + strings.TrimPrefix(name, "registry_")
	}
	want := func(setting, option string, want, have int64) {
		if want == 0 || want == have {
			return
		}
		is := fmt.Sprint(have)
		if have <= 0 {
			is = "not limited"
		}
		wrong = append(wrong, fmt.Sprintf("%s is %s, must be %d", setting, is, want))
		if limits {
			remedy += fmt.Sprintf(" --%s %d", option, want)
		}
	}
	want("replicas", "replicas", int64(c.Replicas), int64(have.Replicas))
	want("max keys", "max-keys", c.MaxKeys, stream.KeysOf(have))
	want("largest value", "max-value", c.MaxValue, int64(have.MaxMsgSize))
	want("max bytes", "max-bytes", c.MaxBytes, have.MaxBytes)
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %s; %s (nothing was changed)",
		ErrBucketMismatch, name, strings.Join(wrong, "; "), remedy)
}

// minVersion is the first nats-server with TTLs on keys and with markers.
const minVersion = "2.11"

// CheckVersion returns an error that wraps [ErrServerTooOld] unless a server of this version can
// hold a tenant.
func CheckVersion(v string) error {
	major, minor, _, ok := stream.ParseVersion(v)
	if !ok || major < 2 || major == 2 && minor < 11 {
		return fmt.Errorf("%w: it says %q; use %s or newer", ErrServerTooOld, v, minVersion)
	}
	return nil
}
