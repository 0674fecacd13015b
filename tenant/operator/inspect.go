package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/internal/stream"
)

// inspectTime bounds what a call of this file asks of the server.
const inspectTime = 3 * time.Second

// Identity is what a server says of a connection's user: its name, its account, what it may
// publish and subscribe to, and when its credentials end.
type Identity = stream.User

// Grants are the subjects that a user may publish or subscribe to. The zero value is everything.
type Grants = stream.Grants

// Identify asks the server for the connection's user. It waits for as long as others says for the
// domains of servers that a leaf node joins. The error wraps [tenant.ErrPermission] if the user may
// not ask.
func Identify(ctx context.Context, nc *nats.Conn, others time.Duration) (u Identity, err error) {
	b, err := tenant.New(nc, "default", tenant.Config{})
	if err == nil {
		err = b.Do(ctx, inspectTime+others, func(ctx context.Context) (err error) {
			u, err = stream.AskUser(ctx, nc, others)
			return err
		}, stream.UserInfo)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("operator: identify: %w", err)
	}
	return u, nil
}

// Setting is a setting of a bucket's stream with which no registry works: its name, the value that
// it has and the one that it must have, and the argument of "nats stream edit" that mends it. The
// argument is empty if the server changes no such setting of a stream that is there.
type Setting = stream.Setting

// Inspection is how a tenant's stream stands in one JetStream domain, as its server says.
type Inspection struct {
	Account *jetstream.AccountInfo
	Stream  *jetstream.StreamInfo // nil if the domain has none

	RoundTrip time.Duration // of the request for Stream
	Offset    time.Duration // by how much the server's clock is ahead of this process's, about

	Differences []Setting // of a bucket
	Advice      []string  // see tenant.Bucket.Advice
	MaxKeys     int64     // 0: no limit

	Hub      string    // the domain of the bucket that a mirror is of; empty if it is no mirror
	MirrorOf time.Time // when that bucket was made, by the hub's clock
	Wrong    []string  // why the mirror can't be used
}

// Inspect asks how a tenant's stream stands in a JetStream domain, or in the connection's own one
// if domain is empty. It changes nothing. It says also what is wrong with a bucket that no registry
// takes. The error wraps [tenant.ErrInvalidTenant], [tenant.ErrInvalidConfig],
// [tenant.ErrJetStreamDisabled], [tenant.ErrPermission] or, if there is no answer, the context's
// error.
func Inspect(ctx context.Context, nc *nats.Conn, name, domain string) (i Inspection, err error) {
	err = at(ctx, nc, name, domain, func(ctx context.Context, js jetstream.JetStream,
		s string) (err error) {
		if i.Account, err = js.AccountInfo(ctx); err != nil {
			return err
		}
		began := time.Now()
		found, err := js.Stream(ctx, s)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil
		}
		if err == nil {
			i.RoundTrip = time.Since(began)
			i.read(found.CachedInfo(), nc.ConnectedServerVersion(), began)
		}
		return err
	}, "INFO", "STREAM.INFO.")
	if err != nil {
		return Inspection{}, fmt.Errorf("operator: inspect %s: %w", name, err)
	}
	return i, nil
}

// read takes what a server answered to a question that was asked then.
func (i *Inspection) read(info *jetstream.StreamInfo, version string, asked time.Time) {
	bucket := strings.TrimPrefix(info.Config.Name, stream.Name(""))
	i.Stream, i.MaxKeys = info, stream.KeysOf(info.Config)
	if !info.TimeStamp.IsZero() {
		i.Offset = info.TimeStamp.Sub(asked.Add(i.RoundTrip / 2))
	}
	if m := info.Config.Mirror; m != nil {
		if i.Wrong = stream.WrongMirror(bucket, info.Config); m.External != nil {
			i.Hub = domainOf(m.External.APIPrefix)
		}
		i.MirrorOf = stream.Made(info.Config)
		return
	}
	i.Differences = stream.Differences(info.Config)
	i.Advice = stream.Advice(version, bucket, info.Config)
}

// Consumers lists the consumers of a tenant's stream in a JetStream domain, or in the connection's
// own one if domain is empty. Views have names that begin with "view-", and those of slot holders
// with "reaper-". No role may list them. Errors are those of [Inspect].
func Consumers(
	ctx context.Context, nc *nats.Conn, name, domain string,
) (list []*jetstream.ConsumerInfo, err error) {
	err = at(ctx, nc, name, domain, func(ctx context.Context, js jetstream.JetStream,
		s string) error {
		found, err := js.Stream(ctx, s)
		if err != nil {
			return err
		}
		consumers := found.ListConsumers(ctx)
		for one := range consumers.Info() {
			list = append(list, one)
		}
		return consumers.Err()
	}, "STREAM.INFO.", "CONSUMER.LIST.")
	if err != nil {
		return nil, fmt.Errorf("operator: consumers of %s: %w", name, err)
	}
	return list, nil
}

// at runs do with the JetStream of a domain and the name of a tenant's stream. The requests that do
// makes end in the stream's name if they end in a dot.
func at(
	ctx context.Context, nc *nats.Conn, name, domain string,
	do func(context.Context, jetstream.JetStream, string) error, requests ...string,
) error {
	b, err := tenant.New(nc, name, tenant.Config{})
	if err != nil {
		return err
	}
	api := stream.API
	if domain != "" {
		if api, err = apiOf(domain); err != nil {
			return err
		}
	}
	js, err := jetstream.NewWithAPIPrefix(nc, api)
	if err != nil {
		return err
	}
	s := stream.Name(b.Name())
	subjects := make([]string, len(requests))
	for i, request := range requests {
		if subjects[i] = api + "." + request; strings.HasSuffix(request, ".") {
			subjects[i] += s
		}
	}
	return b.Do(ctx, inspectTime, func(ctx context.Context) error {
		if u, err := stream.AskUser(ctx, nc, 0); err == nil {
			for _, subject := range subjects { // a refused request is an error in the server's log
				if !u.Publish.Include(subject) {
					return fmt.Errorf("%w: this user may not publish to %s", tenant.ErrPermission,
						subject)
				}
			}
		}
		return do(ctx, js, s)
	}, append(subjects, stream.UserInfo)...)
}

// domainOf is the domain that the prefix of an API is of; empty if it is of none.
func domainOf(api string) string {
	domain, ok := strings.CutSuffix(strings.TrimPrefix(api, "$JS."), ".API")
	if !ok {
		return ""
	}
	return domain
}
