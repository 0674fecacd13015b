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

// How long the bucket keeps what says that a key has ended. Both must outlast an observer's or a
// reaper's absence that is to be told apart from a restart; a full snapshot makes up for the rest.
const (
	MarkerTTL    = stream.MarkerTTL // the server's marker of a lease that ran out
	TombstoneTTL = 10 * time.Minute // a delete or purge of a registration or a lease
)

// Config says how a tenant's bucket is made. The zero value serves.
type Config struct {
	Replicas int   // 1, 3 or 5; 0 is 1 on a single server and 3 in a cluster, and takes an existing bucket as it is
	MaxBytes int64 // the bucket's largest size in bytes; 0 is without limit, and takes an existing bucket as it is
	MaxKeys  int64 // its largest number of keys: registrations, leases, and those that ended in the last 10 minutes; 0 likewise
	MaxValue int64 // the longest value that the server takes, in bytes with its headers; 0 likewise

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

// most is the largest limit of keys or bytes: it can be multiplied by the replicas.
const most = 1 << 60

func (c Config) validate() error {
	switch c.Replicas {
	case 0, 1, 3, 5:
	default:
		return fmt.Errorf("tenant: %w: %d replicas; use 1, 3 or 5", ErrInvalidConfig, c.Replicas)
	}
	if c.MaxBytes < 0 || c.MaxBytes > most {
		return fmt.Errorf("tenant: %w: %d bytes; use 0 for no limit, or up to 1<<60", ErrInvalidConfig, c.MaxBytes)
	}
	if c.MaxValue < 0 || c.MaxValue > math.MaxInt32 {
		return fmt.Errorf("tenant: %w: values of %d bytes; use 0 for no limit, or up to 1<<31-1", ErrInvalidConfig, c.MaxValue)
	}
	if c.MaxKeys < 0 || c.MaxKeys > most {
		return fmt.Errorf("tenant: %w: %d keys; use 0 for no limit, or up to 1<<60", ErrInvalidConfig, c.MaxKeys)
	}
	return nil
}

// Bucket is a tenant's key-value bucket. It may be used by any number of goroutines.
type Bucket struct {
	nc      *nats.Conn
	own     domain                 // the connection's JetStream
	leads   atomic.Pointer[domain] // where the bucket's leader is: own, or the hub's where own has a mirror only
	name    string
	subject string // what the subjects of its keys begin with
	cfg     Config
	reached atomic.Bool                            // by the first Ensure that succeeds
	made    atomic.Pointer[time.Time]              // when Ensure last made it
	found   atomic.Pointer[jetstream.StreamConfig] // the bucket, as Ensure last saw it

	room  room // what is left of its limits
	tries tries

	refused atomic.Pointer[refusal] // the last time that the server refused to make the bucket
	mute    atomic.Uint64           // the life of the connection, from 1, on which this user may not ask for its permissions

	reviving sync.Mutex // held by Revive and Move; guards unheard
	unheard  time.Time  // when a connection that got no answers was last made again
}

// New names the bucket of a tenant on a connection, which stays the caller's. It sends nothing:
// [Bucket.Ensure] does. Errors wrap [ErrInvalidTenant], [ErrInvalidConfig] or [ErrConnectionClosed].
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
	b := &Bucket{nc: nc, own: domain{stream.API, js}, name: name, subject: "$KV." + name + ".", cfg: cfg, tries: tries{all: map[*try]struct{}{}}}
	b.leads.Store(&b.own)
	b.room.turn = make(chan struct{}, 1)
	b.room.turn <- struct{}{}
	return b, nil
}

// Made is when [Bucket.Ensure] last made the bucket, by this process's clock; zero if it was there.
func (b *Bucket) Made() time.Time {
	if at := b.made.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Name is the bucket's name, "registry_" and the tenant's.
func (b *Bucket) Name() string { return b.name }

// Stream is the name of the JetStream stream that holds the bucket.
func (b *Bucket) Stream() string { return "KV_" + b.name }

// Subject is the subject that a key, or a filter of keys, has in the stream.
func (b *Bucket) Subject(key string) string { return b.subject + key }

// Key is the inverse of [Bucket.Subject].
func (b *Bucket) Key(subject string) string {
	return strings.TrimPrefix(subject, b.subject)
}

// JetStream asks the bucket's leader: that of the hub, where the connection's own JetStream has a mirror.
func (b *Bucket) JetStream() jetstream.JetStream { return b.leads.Load().js }

// Conn is the caller's connection.
func (b *Bucket) Conn() *nats.Conn { return b.nc }

// Ensure checks the server, and makes the bucket or checks the one that is there; it changes nothing
// about a bucket that it finds. Any number of processes may do so at once. It waits for the connection, and then
// for a few seconds at the most. [Bucket.Advice] then says what should be changed. Where the
// connection's JetStream has a mirror of the bucket, its hub's bucket is checked, and never made;
// while the hub is away, that is left.
//
// Errors say what is wrong and what to do, and wrap [ErrServerTooOld], [ErrJetStreamDisabled],
// [ErrPermission], [ErrStorageFull], [ErrInvalidConfig], [ErrBucketMismatch] or, where the server did not
// answer in time, the context's error.
func (b *Bucket) Ensure(ctx context.Context) error {
	if err := b.AwaitConnected(ctx); err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	ctx, cancel := b.Try(ctx, 2*attempt, append(b.Asks("STREAM.INFO"), "$JS.API.INFO", "$JS.API.STREAM.CREATE."+b.Stream())...) // a few requests
	defer cancel()
	if err := b.ensure(ctx); err != nil {
		return fmt.Errorf("tenant: %w", b.Explain(ctx, err))
	}
	return nil
}

func (b *Bucket) ensure(ctx context.Context) error {
	if err := checkVersion(b.nc.ConnectedServerVersion()); err != nil {
		return err
	}
	account, err := b.own.js.AccountInfo(ctx) // says it where JetStream is off
	if err != nil {
		return err
	}
	s, err := b.own.js.Stream(ctx, b.Stream())
	switch {
	case err == nil && s.CachedInfo().Config.Mirror != nil:
		if err := b.follow(s.CachedInfo().Config); err != nil {
			return err
		}
		return b.ensureHub(ctx)
	case errors.Is(err, jetstream.ErrStreamNotFound) && b.mirrored(): // somebody deleted the mirror
		return b.ensureHub(ctx)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		lives := b.nc.Stats().Reconnects
		if last := b.refused.Load(); last != nil && time.Since(last.at) < DispenseTime && last.lives == lives {
			return b.missing()
		}
		if !b.may(ctx, "$JS.API.STREAM.CREATE."+b.Stream()) {
			return b.missing()
		}
		if s, err = b.create(ctx); errors.Is(context.Cause(ctx), ErrPermission) {
			b.refused.Store(&refusal{time.Now(), lives})
			return b.missing()
		}
	}
	if err != nil {
		return err
	}
	return b.accept(s.CachedInfo().Config, account)
}

// missing says that the bucket has to be made by somebody else.
func (b *Bucket) missing() error {
	return fmt.Errorf("%w: bucket %s is not there, and this user may not make it (%w); have an admin make it: kvregistry tenant create %s",
		ErrBucketNotFound, b.name, ErrPermission, strings.TrimPrefix(b.name, "registry_"))
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

// learn takes a stream's configuration from who has just read it: limits may have been set since [Bucket.Ensure].
func (b *Bucket) learn(cfg jetstream.StreamConfig) {
	b.room.limited.Store(cfg.MaxMsgs > 0 || cfg.MaxBytes > 0)
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

// create makes the bucket with its limits, or takes the one that another process made first.
func (b *Bucket) create(ctx context.Context) (jetstream.Stream, error) {
	cfg := stream.Config(b.name)
	cfg.MaxBytes = cmp.Or(b.cfg.MaxBytes, cfg.MaxBytes)
	cfg.MaxMsgSize = cmp.Or(int32(b.cfg.MaxValue), cfg.MaxMsgSize)
	cfg.Replicas = b.cfg.replicas(b.nc)
	stream.LimitKeys(&cfg, b.cfg.MaxKeys)
	made, err := stream.Create(ctx, b.own.js, cfg)
	if err != nil {
		return nil, err
	}
	if now := time.Now(); made {
		b.made.Store(&now)
	}
	return b.own.js.Stream(ctx, b.Stream())
}

// check compares an existing bucket with what the registry relies on.
func (c Config) check(name string, have jetstream.StreamConfig) error {
	wrong := stream.Wrong(have)
	want := func(ok bool, setting string, have, want any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s is %v, must be %v", setting, have, want))
		}
	}
	want(c.Replicas == 0 || c.Replicas == have.Replicas, "replicas", have.Replicas, c.Replicas)
	want(c.MaxKeys == 0 || c.MaxKeys == stream.KeysOf(have), "max keys", stream.KeysOf(have), c.MaxKeys)
	want(c.MaxValue == 0 || c.MaxValue == int64(have.MaxMsgSize), "largest value", have.MaxMsgSize, c.MaxValue)
	want(c.MaxBytes == 0 || c.MaxBytes == have.MaxBytes, "max bytes", have.MaxBytes, c.MaxBytes)
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %s; change it by hand, or take another tenant (nothing was changed)",
		ErrBucketMismatch, name, strings.Join(wrong, "; "))
}

// minVersion is the first nats-server with TTLs on keys and with markers.
const minVersion = "2.11"

func checkVersion(v string) error {
	if major, minor, _, ok := stream.ParseVersion(v); !ok || major < 2 || major == 2 && minor < 11 {
		return fmt.Errorf("%w: it says %q; use %s or newer", ErrServerTooOld, v, minVersion)
	}
	return nil
}
