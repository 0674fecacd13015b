package stream

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/backoff"
)

// UserInfo is the subject on which a user asks the server for its own permissions.
const UserInfo = "$SYS.REQ.USER.INFO"

// API is the prefix of requests to the connection's own JetStream.
const API = "$JS.API"

// MarkerTTL is how long the server keeps its marker of a key whose TTL ended.
const MarkerTTL = 10 * time.Minute

// DuplicateWindow is how long the server remembers message ids: the shortest time that it takes.
// The library sends no ids. Ids that a hostile user sends stay in the server's memory that long.
const DuplicateWindow = 100 * time.Millisecond

// MaxConsumers is how many consumers a bucket may have: each registry that observes or registers
// something needs one. Without a limit of its own, a stream gets 1,000 from the server.
const MaxConsumers = 1_000_000

// maxKeys is the name of a bucket's limit of keys, in the metadata of its stream.
const maxKeys = "kvregistry.max_keys"

// spareKeys is how many messages a stream takes beyond twice its limit of keys. A cluster counts a
// write twice until it has replaced the message that was there. Processes that lost their leases
// take new ones while the markers of the old ones stay.
const spareKeys = 1000

// Name is the name of the stream that holds a bucket.
func Name(bucket string) string { return "KV_" + bucket }

// Config is the stream of a new bucket, without limits of bytes and values and with one replica.
func Config(bucket string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:                   Name(bucket),
		Description:            "kvregistry: services, leases",
		Subjects:               []string{"$KV." + bucket + ".>"},
		MaxMsgsPerSubject:      1,
		MaxMsgs:                -1,
		MaxBytes:               -1,
		MaxMsgSize:             -1,
		MaxConsumers:           MaxConsumers,
		Storage:                jetstream.FileStorage,
		Discard:                jetstream.DiscardNew,
		Replicas:               1,
		AllowRollup:            true,
		AllowDirect:            true,
		DenyDelete:             true,
		AllowMsgTTL:            true,
		SubjectDeleteMarkerTTL: MarkerTTL,
		Duplicates:             DuplicateWindow,
	}
}

// LimitKeys sets how many keys a bucket may have. There is no limit if n is 0 or less.
func LimitKeys(cfg *jetstream.StreamConfig, n int64) {
	if n <= 0 {
		cfg.MaxMsgs = -1
		delete(cfg.Metadata, maxKeys)
		return
	}
	if cfg.Metadata == nil {
		cfg.Metadata = map[string]string{}
	}
	cfg.MaxMsgs, cfg.Metadata[maxKeys] = 2*n+spareKeys, strconv.FormatInt(n, 10)
}

// KeysOf is how many keys a bucket may have, 0 if there is no limit. A tenth of a limit that was
// set by hand is kept for heartbeats.
func KeysOf(cfg jetstream.StreamConfig) int64 {
	if cfg.MaxMsgs <= 0 {
		return 0
	}
	keys := max(1, cfg.MaxMsgs-cfg.MaxMsgs/10)
	if n, err := strconv.ParseInt(cfg.Metadata[maxKeys], 10, 64); err == nil && n > 0 {
		keys = min(keys, n)
	}
	return keys
}

// The codes of errors of the JetStream API that Create knows and nats.go has no name for.
const (
	codeClusterNoPeers   = 10005
	codeMaximumConsumers = 10026
	codeStreamCreate     = 10049
)

// createTime bounds the tries of Create after a refusal that ends by itself.
const createTime = 2 * time.Second

// Create makes a stream, and takes the one that another process made first. made reports whether
// this call made it.
func Create(
	ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig,
) (made bool, err error) {
	for began := time.Now(); ; {
		_, err := js.CreateStream(ctx, cfg)
		var api *jetstream.APIError
		switch errors.As(err, &api); {
		case err == nil, errors.Is(err, jetstream.ErrStreamNameAlreadyInUse):
			return err == nil, nil
		case api != nil && api.ErrorCode == codeMaximumConsumers: // the account's limit is lower
			cfg.MaxConsumers = -1
			continue
		case !isBrief(api) || time.Since(began) > createTime:
			return false, err
		}
		if backoff.Sleep(ctx, 50*time.Millisecond) != nil {
			return false, err
		}
	}
}

// isBrief reports whether a refusal of a stream ends by itself. A server can't store a stream
// while it removes the folder of the account's last one.
func isBrief(err *jetstream.APIError) bool {
	return err != nil && (err.ErrorCode == codeStreamCreate || IsNodeAway(err))
}

// IsNodeAway reports whether too few nodes of a cluster are there for the replicas. A leader that
// was just elected may not know a node yet.
func IsNodeAway(err *jetstream.APIError) bool {
	return err.ErrorCode == codeClusterNoPeers && strings.Contains(err.Description, "offline")
}
