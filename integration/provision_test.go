package integration

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// What is wrong with the server is said by the constructor, each with an error of its own and the remedy.
func TestConstructorSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	refused := func(t *testing.T, nc *nats.Conn, want error, remedy string, opts ...kvregistry.Option) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		began := time.Now()
		_, err := kvregistry.New(ctx, nc, append(opts, quiet())...)
		if !isErr(err, want) || !strings.Contains(err.Error(), remedy) {
			t.Errorf("got %v, want %v and the word %q", err, want, remedy)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %s to say so", took)
		}
	}
	t.Run("JetStream is off", func(t *testing.T) {
		s := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
		refused(t, s.Connect(), kvregistry.ErrJetStreamOff, "-js")
	})
	t.Run("no permission", func(t *testing.T) {
		s := natstest.Start(t, func(o *server.Options) {
			o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{"$JS.API.>"}},
			}}}
		})
		refused(t, s.Connect(nats.UserInfo("u", "p")), kvregistry.ErrPermission, "allow")
	})
	t.Run("storage full", func(t *testing.T) {
		s := natstest.Start(t, func(o *server.Options) { o.JetStreamMaxStore = 1 << 20 })
		refused(t, s.Connect(), kvregistry.ErrStorageFull, "limit", kvregistry.MaxBytes(1<<30))
	})
	t.Run("replicas without a cluster", func(t *testing.T) {
		s := natstest.Start(t)
		refused(t, s.Connect(), kvregistry.ErrInvalidOption, "Replicas", kvregistry.Replicas(3))
	})
	t.Run("another bucket of that name", func(t *testing.T) {
		s := natstest.Start(t)
		nc := s.Connect()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "registry_default", History: 5, Storage: jetstream.MemoryStorage}); err != nil {
			t.Fatal(err)
		}
		refused(t, nc, kvregistry.ErrBucketMismatch, "history is 5")
		refused(t, nc, kvregistry.ErrBucketMismatch, "storage is Memory")
		st, err := js.Stream(ctx, "KV_registry_default")
		if err != nil || st.CachedInfo().Config.MaxMsgsPerSubject != 5 {
			t.Errorf("the bucket was changed: %v", err)
		}
	})
}

// A bucket that is full says so to who registers, and what is there stays.
func TestFullBucket(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s, kvregistry.MaxBytes(64<<10))
	register(t, r, web("a"))
	big := web("big")
	big.Metadata = map[string]string{"k": strings.Repeat("x", 60<<10)}
	register(t, r, big)
	more := big
	more.ID = "more"
	if _, err := r.Register(more); !isErr(err, kvregistry.ErrStorageFull) {
		t.Errorf("a full bucket gave %v", err)
	}
	sees(t, r, time.Second, "web", "a", "big")
	if got := r.RegisteredServices(); len(got) != 2 {
		t.Errorf("what was refused is listed: %v", got)
	}
}

// Many processes may be a tenant's first at once.
func TestConcurrentFirstUse(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	var wg sync.WaitGroup
	for range 20 {
		nc := s.Connect()
		wg.Go(func() {
			r, err := kvregistry.New(t.Context(), nc, kvregistry.Tenant("fresh"), quiet())
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := r.Register(kvregistry.Service{Name: "web", Address: "h:1"}); err != nil {
				t.Error(err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
