package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 4: a deleted bucket is recreated and filled again by the live processes, and caches
// follow. Seen to fail without the view's check that the stream is the same one.
func TestDeletedBucketIsRecreated(t *testing.T) {
	t.Parallel()
	for _, byHand := range []bool{false, true} {
		t.Run(fmt.Sprintf("by hand %v", byHand), func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			observer := open(t, s)
			owner := open(t, s)
			register(t, owner, web("a"))
			for range 500 { // the new bucket's revisions are then below the old one's
				must(t, owner.UpdateFunc(t.Context(), "web", "",
					func(s *kvService) { s.Weight++ }))
			}
			gone := start(t, plan{URL: s.URL(), Services: []kvService{web("gone")}})
			sees(t, observer, natstest.Soon, "web", "a", "gone")
			gone.freeze()
			js, err := jetstream.New(s.Connect())
			if err != nil {
				t.Fatal(err)
			}
			if err := js.DeleteKeyValue(t.Context(), "registry_default"); err != nil {
				t.Fatal(err)
			}
			if byHand {
				_, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{
					Bucket: "registry_default", History: 1, LimitMarkerTTL: time.Minute,
					Storage: jetstream.FileStorage,
				})
				if err != nil && !isErr(err, jetstream.ErrBucketExists) {
					t.Fatal(err)
				}
			}
			sees(t, observer, natstest.Soon, "web", "a")
			// Revisions start over. A change counts even if its revision was used before.
			if err := owner.Update(kvService{Name: "web", ID: "a", Address: "anew:1"}); err != nil {
				t.Fatal(err)
			}
			natstest.Eventually(t, natstest.Soon,
				func() error { return wantAddress(observer, "anew:1") })
			register(t, owner, web("b"))
			sees(t, observer, natstest.Soon, "web", "a", "b")
			gone.thaw()
			sees(t, observer, natstest.Soon, "web", "a", "b", "gone")
			gone.kill()
			sees(t, observer, natstest.Soon, "web", "a", "b")
		})
	}
}

// Invariants 3 and 4: several registries fight for the same ids while the bucket is deleted. When
// they pause, each key belongs to the registry that lists it, and no other key is there. Revisions
// start over in the new bucket, so revisions of the two buckets must not be compared.
func TestFightOverADeletedBucket(t *testing.T) {
	natstest.Long(t)
	t.Parallel()
	for round := range 2 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			var fighters []*kvregistry.Registry
			for range 4 {
				fighters = append(fighters, open(t, s))
			}
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for n, r := range fighters {
				// one goroutine for each id, as in a program that registers an id at one place
				for i := range 8 {
					// ends with ctx
					wg.Go(func() {
						fight(ctx, r, web(fmt.Sprintf("id-%d", i)),
							fmt.Sprintf("by-%d:1", n))
					})
				}
			}
			js, err := jetstream.New(s.Connect())
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				time.Sleep(time.Second) // the fight lasts so long
				if err := js.DeleteKeyValue(t.Context(), "registry_default"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2500 * time.Millisecond) // the fight goes on in the new bucket
			}
			stop()
			wg.Wait()
			natstest.Eventually(t, natstest.Soon,
				func() error { return eachKeyHasItsOwner(t, s, fighters) })
		})
	}
}

// fight registers, changes and unregisters one instance until ctx ends.
func fight(ctx context.Context, r *kvregistry.Registry, one kvregistry.Service, address string) {
	one.URL, one.Address = "", address
	var takeBack func() error
	for ctx.Err() == nil {
		held := slices.ContainsFunc(r.RegisteredServices(),
			func(s kvregistry.Service) bool { return s.ID == one.ID })
		call, cancel := context.WithTimeout(context.Background(), time.Second)
		switch {
		case !held:
			if un, _ := r.RegisterContext(call, one); un != nil {
				takeBack = un
			}
		case rand.IntN(3) == 0:
			_ = takeBack()
		default:
			_ = r.UpdateContext(call, one)
		}
		cancel()
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond) // the pace of the changes
	}
}

func eachKeyHasItsOwner(t *testing.T, s *natstest.Server, fighters []*kvregistry.Registry) error {
	believed := map[string]string{}
	for n, r := range fighters {
		for _, one := range r.RegisteredServices() {
			believed[one.ID] += fmt.Sprintf("by-%d:1", n)
		}
	}
	held := map[string]string{}
	nc := s.Connect()
	defer nc.Close()
	kv := bucket(t, nc, "default")
	for _, key := range keys(t, nc, "default", "svc.") {
		e, err := kv.Get(t.Context(), key)
		if err != nil {
			return err
		}
		var doc struct{ Instance struct{ Address string } }
		if err := json.Unmarshal(e.Value(), &doc); err != nil {
			return err
		}
		held[key[strings.LastIndex(key, ".")+1:]] = doc.Instance.Address
	}
	if !maps.Equal(believed, held) {
		return fmt.Errorf("the bucket has %v, and the registries list %v", held, believed)
	}
	return nil
}

// Invariant 4: messages that an operator removes from the stream without a marker are noticed
// within a TTL. Dead instances then leave the caches. Live ones are written again and stay in the
// caches. Seen to fail without the view's check of the stream's first revision.
func TestPurgedStreamConverges(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	var expired atomic.Int64
	// no reaper writes a purge for the dead
	observer := open(t, s, kvregistry.WithoutReaping(),
		kvregistry.OnEvent(func(e kvregistry.Event) {
			if e.Kind == kvregistry.Expired && e.Service.ID == "a" {
				expired.Add(1)
			}
		}))
	owner := open(t, s, kvregistry.WithoutReaping())
	gone := start(t, plan{URL: s.URL(), Services: []kvService{web("gone")}})
	register(t, owner, web("a"))
	sees(t, observer, natstest.Soon, "web", "a", "gone")
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_registry_default")
	if err != nil {
		t.Fatal(err)
	}
	gone.kill()
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := sees(t, observer, natstest.Soon, "web", "a")
	t.Logf("the cache equals the bucket after %s", took.Round(time.Millisecond))
	if expired.Load() > 0 {
		t.Error("the live instance was reported gone")
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if left := keys(t, s.Connect(), "default", "svc."); len(left) != 1 {
			return errors.New("the live instance is not written again")
		}
		return nil
	})
}

// Invariant 4: in a recreated bucket, an owner's registration has a lease long before its next
// heartbeat is due, so that a newcomer finds the instance. Seen to fail without Keeper.Check.
func TestNewcomerInARecreatedBucket(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := open(t, s, kvregistry.TTL(10*time.Minute))
	register(t, owner, web("a"))
	sees(t, owner, natstest.Soon, "web", "a")
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(t.Context(), "registry_default"); err != nil {
		t.Fatal(err)
	}
	// until the loss is noticed
	natstest.Eventually(t, 15*time.Second+natstest.Soon, func() error {
		_, err := js.KeyValue(t.Context(), "registry_default")
		return err
	})
	natstest.Eventually(t, natstest.Soon, func() error {
		kv, err := js.KeyValue(t.Context(), "registry_default")
		if err != nil {
			return err
		}
		l := inside.Lease(owner)
		if l == nil {
			return errors.New("the owner has no lease")
		}
		_, err = kv.Get(t.Context(), "lease."+l.ID)
		return err
	})
	newcomer := open(t, s, kvregistry.TTL(time.Minute))
	sees(t, newcomer, natstest.Soon, "web", "a")
}
