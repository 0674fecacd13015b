package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariants 3 and 4: several registries fight for the same ids while the bucket is deleted under them. When they pause,
// each key is of the one that believes to have it, and there is no other. What was seen of a bucket before must not be
// compared with what was written in the next: revisions have started over.
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
				for i := range 8 { // one for each id, as a program has one place where it registers one
					wg.Go(func() { fight(ctx, r, web(fmt.Sprintf("id-%d", i)), fmt.Sprintf("by-%d:1", n)) }) // ends with ctx
				}
			}
			js, err := jetstream.New(s.Connect())
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				time.Sleep(time.Second) // the fight
				if err := js.DeleteKeyValue(t.Context(), "registry_default"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2500 * time.Millisecond) // and in the bucket made anew
			}
			stop()
			wg.Wait()
			natstest.Eventually(t, natstest.Soon, func() error { return eachKeyHasItsOwner(t, s, fighters) })
		})
	}
}

// fight registers, changes and takes back one instance, until ctx ends.
func fight(ctx context.Context, r *kvregistry.Registry, one kvregistry.Service, address string) {
	one.URL, one.Address = "", address
	var takeBack func() error
	for ctx.Err() == nil {
		held := slices.ContainsFunc(r.RegisteredServices(), func(s kvregistry.Service) bool { return s.ID == one.ID })
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
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond) // the pace
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
		return fmt.Errorf("the bucket has %v, and they believe %v", held, believed)
	}
	return nil
}
