package kvregistry

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/tenant"
)

// Option sets something of a registry. A bad one is an error of New or Connect.
type Option func(*options) error

type options struct {
	nc          *nats.Conn
	ncGiven     bool
	tenant      string
	tenantGiven bool
	ttl         time.Duration
	timeout     time.Duration
	bucket      tenant.Config
	logger      *slog.Logger
	onEvent     []func(Event)
	onLeaseLost []func(error)
	onFenced    []func(Service)
	onHealth    []func(Health)
	standBy     bool
	maxStale    time.Duration
	file        string // of snapshots; empty if none is kept
	fileAge     time.Duration
	aloof       bool          // it takes no requests of other processes
	listening   bool          // Register looks whether something listens
	patience    time.Duration // for which it waits for that
	bounds      bounds
	signer      Signer
	public      string              // the signer's key
	trusted     map[string][]string // the public keys that may sign for a service
}

// bounds are of what others can make grow in this process's memory.
type bounds struct{ instances, services, record, memory int }

// The defaults of the options.
const (
	DefaultTenant  = "default"
	DefaultTTL     = lease.DefaultTTL
	DefaultTimeout = 2 * time.Second

	DefaultMaxInstances = 100_000
	DefaultMaxServices  = 100_000
	DefaultMaxRecord    = 64 << 10
	DefaultMaxMemory    = 384 << 20
)

// largestRecord is the largest MaxRecord there may be.
const largestRecord = 1 << 20

// checkTime is the time between two looks at whether something happened that nothing told of.
func (o *options) checkTime() time.Duration { return min(o.ttl, DefaultTTL) }

// heartbeat is how often the view's idle consumer says that it is there. A registry that refuses
// stale answers hears of it often enough to know that one is not.
func (o *options) heartbeat() time.Duration {
	beat := lease.ViewHeartbeat(o.ttl)
	if o.maxStale > 0 {
		beat = min(beat, o.maxStale*3/8)
	}
	return beat
}

// currentAge is how old a view that is current may be: a heartbeat of its consumer, and some.
func (o *options) currentAge() time.Duration { return o.heartbeat() + time.Second/4 }

// writeTime bounds the writes of the methods that take no context.
const writeTime = 5 * time.Second

func newOptions(opts []Option) (options, error) {
	o := options{tenant: DefaultTenant, ttl: DefaultTTL, timeout: DefaultTimeout,
		logger: slog.Default(), fileAge: DefaultSnapshotFileAge,
		bounds: bounds{DefaultMaxInstances, DefaultMaxServices, DefaultMaxRecord, DefaultMaxMemory}}
	for _, opt := range opts {
		if opt == nil {
			return o, fmt.Errorf("kvregistry: %w: it is nil", ErrInvalidOption)
		}
		if err := opt(&o); err != nil {
			return o, fmt.Errorf("kvregistry: %w", err)
		}
	}
	o.logger = o.logger.With("tenant", o.tenant)
	return o, nil
}

// Nats is the connection that Connect works on. It stays the caller's: Close does not close it.
func Nats(nc *nats.Conn) Option {
	return func(o *options) error {
		o.nc, o.ncGiven = nc, true
		return nil
	}
}

// Tenant is the tenant whose services this registry sees: 1 to 64 letters, digits, '-' and '_'. The
// default is [DefaultTenant].
func Tenant(name string) Option {
	return func(o *options) error {
		if _, err := tenant.BucketName(name); err != nil {
			return fmt.Errorf("%w: Tenant: %w", ErrInvalidOption, err)
		}
		o.tenant, o.tenantGiven = name, true
		return nil
	}
}

// TTL is the time after its last heartbeat at which a dead process's registrations go: whole
// seconds from 2 s to 24 h, [DefaultTTL] by default. A heartbeat is sent every third of it.
func TTL(ttl time.Duration) Option {
	return func(o *options) error {
		if err := lease.CheckTTL(ttl); err != nil {
			return fmt.Errorf("%w: TTL: %w", ErrInvalidOption, err)
		}
		o.ttl = ttl
		return nil
	}
}

// Timeout bounds a look-up that has no deadline of its own and has to wait, as the first one of a
// service does. The default is [DefaultTimeout].
func Timeout(d time.Duration) Option {
	return func(o *options) error {
		if d < time.Millisecond {
			return fmt.Errorf("%w: Timeout %s; give at least 1ms, with a unit, as 5*time.Second",
				ErrInvalidOption, d)
		}
		o.timeout = d
		return nil
	}
}

// Logger is told when a state changes: once when a view or a lease is lost, once when it is back.
// The default is slog.Default.
func Logger(l *slog.Logger) Option {
	return func(o *options) error {
		if l == nil {
			return fmt.Errorf("%w: Logger is nil; leave it out, or use slog.DiscardHandler",
				ErrInvalidOption)
		}
		o.logger = l
		return nil
	}
}

// OnEvent has f called with every change of every observed service, and with this process's own
// [Fenced] and [LeaseLost], one at a time. An f that is slow sees changes coalesced per instance,
// and holds up nothing else.
func OnEvent(f func(Event)) Option {
	return func(o *options) error {
		if f == nil {
			return fmt.Errorf("%w: OnEvent is nil", ErrInvalidOption)
		}
		o.onEvent = append(o.onEvent, f)
		return nil
	}
}

// OnLeaseLost has f called when this process's lease is lost, with an error that wraps
// [ErrLeaseLost]. A new lease is taken, and everything registered again under it, without f's help.
func OnLeaseLost(f func(error)) Option {
	return func(o *options) error {
		if f == nil {
			return fmt.Errorf("%w: OnLeaseLost is nil", ErrInvalidOption)
		}
		o.onLeaseLost = append(o.onLeaseLost, f)
		return nil
	}
}

// OnFenced has f called with a registration of this process that a newer one of the same id took
// over: another process's, or another registry's in this one.
func OnFenced(f func(Service)) Option {
	return func(o *options) error {
		if f == nil {
			return fmt.Errorf("%w: OnFenced is nil", ErrInvalidOption)
		}
		o.onFenced = append(o.onFenced, f)
		return nil
	}
}

// OnHealth has f called with the registry's [Health] when it turns from right to wrong or back, as
// [Health.OK] and [Health.Current] say: within a second of the turn, at first with what is so then.
// Calls come one after the other. [Registry.OnHealth] adds a function later.
func OnHealth(f func(Health)) Option {
	return func(o *options) error {
		if f == nil {
			return fmt.Errorf("%w: OnHealth is nil", ErrInvalidOption)
		}
		o.onHealth = append(o.onHealth, f)
		return nil
	}
}

// Replicas is how many servers keep the tenant's bucket: 1, 3 or 5. By default a new bucket has one
// on a single server and three in a cluster, and an existing one is taken as it is.
func Replicas(n int) Option {
	return func(o *options) error {
		if n != 1 && n != 3 && n != 5 {
			return fmt.Errorf("%w: Replicas(%d); use 1, 3 or 5", ErrInvalidOption, n)
		}
		o.bucket.Replicas = n
		return nil
	}
}

// MaxBytes bounds a new bucket's size on disk. By default it has no bound, and an existing one is
// taken as it is.
func MaxBytes(n int64) Option {
	return func(o *options) error {
		if n <= 0 {
			return fmt.Errorf("%w: MaxBytes(%d); it must be positive", ErrInvalidOption, n)
		}
		o.bucket.MaxBytes = n
		return nil
	}
}

// MaxKeys bounds how many keys a new bucket may have: registrations, leases, and those that ended
// in the last 10 minutes. By default it has no bound, and an existing one is taken as it is. A
// caller that registers something new beyond it is told [ErrStorageFull].
func MaxKeys(n int64) Option {
	return func(o *options) error {
		if n <= 0 {
			return fmt.Errorf("%w: MaxKeys(%d); it must be positive", ErrInvalidOption, n)
		}
		o.bucket.MaxKeys = n
		return nil
	}
}

// MaxStale makes look-ups fail with [ErrStale] if the server last confirmed longer ago than d that
// what they would show is current: 2 s or more. The view's consumer then says at least every 3/8 of
// d that it is there. By default a look-up answers however long the server has been away.
// [Registry.Snapshot] always answers: it tells its age.
func MaxStale(d time.Duration) Option {
	return func(o *options) error {
		if d < 2*time.Second {
			return fmt.Errorf("%w: MaxStale(%s); use 2s or more, or leave it out", ErrInvalidOption,
				d)
		}
		o.maxStale = d
		return nil
	}
}

// MaxInstances bounds how many instances of one service this registry keeps in memory,
// [DefaultMaxInstances] by default. Those that come when it has so many are skipped, counted and
// logged as records that can't be read are; when others go, they are found again by the next whole
// snapshot.
func MaxInstances(n int) Option {
	return func(o *options) error {
		if n <= 0 {
			return fmt.Errorf("%w: MaxInstances(%d); it must be positive", ErrInvalidOption, n)
		}
		o.bounds.instances = n
		return nil
	}
}

// MaxServices bounds how many services this registry keeps in memory if [Everything] is
// observed, [DefaultMaxServices] by default; those that are asked for by name before are kept
// beyond it. What does not fit is skipped, counted and logged; a look-up of a service that is not
// kept gives [ErrUnavailable] from then on.
func MaxServices(n int) Option {
	return func(o *options) error {
		if n <= 0 {
			return fmt.Errorf("%w: MaxServices(%d); it must be positive", ErrInvalidOption, n)
		}
		o.bounds.services = n
		return nil
	}
}

// MaxMemory bounds about how many bytes of memory the view of this registry takes, whatever the
// bucket holds: 1 MiB or more, [DefaultMaxMemory] by default. The instances that are kept take up
// to a third of it, and the rest is for a snapshot while it is read. An instance that does not fit
// is skipped and counted, and look-ups of a service of which nothing is kept give [ErrUnavailable].
// [Health] and one log line tell of it. Everything is read again when half of what was kept is
// gone, and every 16 minutes at least: if all fits then, it is shown.
func MaxMemory(bytes int) Option {
	return func(o *options) error {
		if bytes < 1<<20 {
			return fmt.Errorf("%w: MaxMemory(%d); use 1048576 bytes or more", ErrInvalidOption,
				bytes)
		}
		o.bounds.memory = bytes
		return nil
	}
}

// MaxRecord bounds a registration's record, in bytes from 1 KiB to 1 MiB, [DefaultMaxRecord] by
// default: it is what one registration may cost each observer. A longer one is not registered, and
// one that another process has written is skipped, counted and logged; so give all of a tenant's
// processes the same. The server's max_payload is a bound of its own.
func MaxRecord(bytes int) Option {
	return func(o *options) error {
		if bytes < 1<<10 || bytes > largestRecord {
			return fmt.Errorf("%w: MaxRecord(%d); use 1024 to 1048576 bytes", ErrInvalidOption,
				bytes)
		}
		o.bounds.record = bytes
		return nil
	}
}

// ForceReconnect lets the registry force a reconnect of the connection if a heartbeat, or the
// view's consumer, went unanswered and so did a ping, and have it made to another server of the
// cluster if pings are answered and heartbeats are not. By default the connection is left to its
// owner and to NATS's own pings: see [Dial].
func ForceReconnect() Option {
	return func(o *options) error {
		o.bucket.ForceReconnect = true
		return nil
	}
}

// WithoutReaping leaves the removal of dead processes' registrations to the tenant's other
// registries. At least one of them has to do it: see Unreaped of [Health].
func WithoutReaping() Option {
	return func(o *options) error {
		o.standBy = true
		return nil
	}
}

// DefaultSnapshotFileAge is how old what stands in a snapshot file may be, unless [SnapshotFileAge]
// says otherwise.
const DefaultSnapshotFileAge = 24 * time.Hour

// SnapshotFile keeps what this registry observes in a file. If NATS is away when the program runs
// the next time, it answers its first look-ups from the file: at once if there is no connection,
// and when the look-up has waited in vain if the bucket can't be read. Such a snapshot is
// [Snapshot.Stale], its Age counts from when the server last confirmed it, and [Health] names its
// service. Instances come and go by what NATS says only: events do not tell of the file, and
// nothing is taken from it for a service that was read. For a service with signers ([TrustSigners])
// the file keeps the signer of each instance, and instances that none of the signers given now has
// signed are not shown.
//
// The file is written within 5 s of a change and by Close, under another name first, so that it is
// whole at any time. A service that stands in it for longer than [SnapshotFileAge] is not used, and
// neither is a file that can't be read, which the log tells. Its folder has to exist. Only its
// owner can read it, because URLs and metadata may hold passwords. Each registry needs a file of
// its own: of two that share one, the last to write has it.
func SnapshotFile(path string) Option {
	return func(o *options) error {
		if info, err := os.Stat(filepath.Dir(path)); path == "" || err != nil || !info.IsDir() {
			return fmt.Errorf("%w: SnapshotFile(%q): %q is no folder; make it first",
				ErrInvalidOption, path, filepath.Dir(path))
		}
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("%w: SnapshotFile(%q) is there and no file; name another",
				ErrInvalidOption, path)
		}
		o.file = path
		return nil
	}
}

// SnapshotFileAge bounds how old what stands in the [SnapshotFile] may be, by this machine's clock:
// a minute or more, [DefaultSnapshotFileAge] by default.
func SnapshotFileAge(d time.Duration) Option {
	return func(o *options) error {
		if d < time.Minute {
			return fmt.Errorf("%w: SnapshotFileAge(%s); use 1m or more", ErrInvalidOption, d)
		}
		o.fileAge = d
		return nil
	}
}

// Listening has Register check first whether something listens where the instance is said to be,
// and wait for it for up to patience; with 0 it checks once. Calls to a service that is registered
// before it listens fail.
//
// It opens a connection to the instance's Address, or, if there is none, to the host and port of
// its URL, and closes it again. It does not check an Address of UDP, which answers nobody. If
// nothing answers, nothing is registered, and the error wraps [ErrNotListening]. The wait is a part
// of the time that Register has, which is 5 s without a context.
func Listening(patience time.Duration) Option {
	return func(o *options) error {
		if patience < 0 {
			return fmt.Errorf("%w: Listening(%s); use 0 to look once, or how long to wait",
				ErrInvalidOption, patience)
		}
		o.listening, o.patience = true, patience
		return nil
	}
}
