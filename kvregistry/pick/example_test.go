package pick_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/pick"
	"github.com/kvregistry/go/kvregistry/semver"
)

// connected returns a registry in which these instances are registered, as
// nats.Connect("nats://localhost:4222") would.
func connected(list ...kvregistry.Service) (*kvregistry.Registry, func()) {
	url, stop := natstest.Run()
	nc, err := nats.Connect(url)
	if err != nil {
		log.Fatal(err)
	}
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range list {
		s.Name, s.Address = "httptest", "10.0.0.1:80"
		if _, err := reg.Register(s); err != nil {
			log.Fatal(err)
		}
	}
	return reg, func() { _ = reg.Close(); nc.Close(); stop() }
}

// A look-up is prepared once: it filters by tag and version, prefers its own zone, and picks the
// least busy there.
func Example() {
	reg, stop := connected(
		kvregistry.Service{ID: "1", Zone: "north", Version: "1.4.2", Tags: []string{"public"}},
		kvregistry.Service{ID: "2", Zone: "north", Version: "2.0.0", Tags: []string{"public"}},
		kvregistry.Service{ID: "3", Zone: "south", Version: "1.5.0", Tags: []string{"public"}},
	)
	defer stop()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	v1, err := semver.Constraint("^1.4")
	if err != nil {
		log.Fatal(err)
	}
	look, err := reg.Lookup("httptest", v1, kvregistry.WithTag("public"),
		pick.Zone("north", pick.LeastInFlight()))
	if err != nil {
		log.Fatal(err)
	}

	for range 3 { // each call
		s, done, err := look.Pick(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("calling", s.ID)
		done(nil) // or the error of the call
	}
	// Output:
	// calling 1
	// calling 1
	// calling 1
}

// An instance that fails is set aside, and the others take its calls.
func ExampleLeastInFlight_outcome() {
	reg, stop := connected(kvregistry.Service{ID: "1"}, kvregistry.Service{ID: "2"},
		kvregistry.Service{ID: "3"})
	defer stop()
	look, err := reg.Lookup("httptest", pick.LeastInFlight(),
		kvregistry.Outcome{Failures: 3, Aside: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}

	call := func(s kvregistry.Service) error {
		if s.ID == "2" {
			return errors.New("connection refused")
		}
		return nil
	}
	for range 100 {
		s, done, err := look.Pick(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		done(call(s))
	}
	for _, i := range look.Health().Instances {
		fmt.Println(i.ID, i.Failures, i.Aside)
	}
	// Output:
	// 1 0 false
	// 2 3 true
	// 3 0 false
}

func picks(look *kvregistry.Lookup, err error, n int, req kvregistry.Request) string {
	if err != nil {
		log.Fatal(err)
	}
	var ids []string
	for range n {
		s, done, err := look.PickWith(context.Background(), req)
		if err != nil {
			log.Fatal(err)
		}
		done(nil)
		ids = append(ids, s.ID)
	}
	return strings.Join(ids, " ")
}

func share(picks, id string) float64 {
	return float64(strings.Count(picks, id)) / float64(strings.Count(picks, " ")+1)
}

func ExampleRoundRobin() {
	reg, stop := connected(kvregistry.Service{ID: "1"}, kvregistry.Service{ID: "2"})
	defer stop()
	look, err := reg.Lookup("httptest", pick.RoundRobin())
	fmt.Printf("%.2f\n", share(picks(look, err, 1000, kvregistry.Request{}), "1"))
	// Output: 0.50
}

func ExampleRandom() {
	reg, stop := connected(kvregistry.Service{ID: "1"}, kvregistry.Service{ID: "2"})
	defer stop()
	look, err := reg.Lookup("httptest", pick.Random())
	fmt.Printf("%.1f\n", share(picks(look, err, 10_000, kvregistry.Request{}), "1"))
	// Output: 0.5
}

func ExampleWeighted() {
	reg, stop := connected(kvregistry.Service{ID: "large", Weight: 3},
		kvregistry.Service{ID: "small", Weight: 1})
	defer stop()
	look, err := reg.Lookup("httptest", pick.Weighted())
	fmt.Printf("%.2f\n", share(picks(look, err, 1000, kvregistry.Request{}), "large"))
	// Output: 0.75
}

// A key is always given the same instance.
func ExampleHash() {
	reg, stop := connected(kvregistry.Service{ID: "1"}, kvregistry.Service{ID: "2"},
		kvregistry.Service{ID: "3"})
	defer stop()
	look, err := reg.Lookup("httptest", pick.Hash())
	for _, key := range []string{"alice", "dave", "alice"} {
		fmt.Println(key, picks(look, err, 5, kvregistry.Request{Key: key}))
	}
	// Output:
	// alice 3 3 3 3 3
	// dave 1 1 1 1 1
	// alice 3 3 3 3 3
}

// A key stays with the instance that it was given first.
func ExampleSticky() {
	reg, stop := connected(kvregistry.Service{ID: "1"}, kvregistry.Service{ID: "2"},
		kvregistry.Service{ID: "3"})
	defer stop()
	look, err := reg.Lookup("httptest", pick.Sticky(pick.Random()))
	alice := kvregistry.Request{Key: "alice"}
	first := picks(look, err, 1, alice)
	fmt.Println(share(picks(look, err, 5, alice), first))
	// Output: 1
}

// Each zone has its part of the capacity. North has half of its share, and half of its calls go to
// the zone that has more than its share.
func ExampleZone() {
	reg, stop := connected(
		kvregistry.Service{ID: "n1", Zone: "north"},
		kvregistry.Service{ID: "w1", Zone: "west"}, kvregistry.Service{ID: "w2", Zone: "west"},
		kvregistry.Service{ID: "s1", Zone: "south"}, kvregistry.Service{ID: "s2", Zone: "south"},
		kvregistry.Service{ID: "s3", Zone: "south"},
	)
	defer stop()
	look, err := reg.Lookup("httptest", pick.Zone("north", pick.RoundRobin()))
	all := picks(look, err, 10_000, kvregistry.Request{})
	fmt.Printf("north %.2f, west %.2f, south %.2f\n", share(all, "n"), share(all, "w"),
		share(all, "s"))
	// Output: north 0.50, west 0.00, south 0.50
}

// The second tier is used when the first has no instance that may be called.
func ExampleTiers() {
	reg, stop := connected(
		kvregistry.Service{ID: "main", Metadata: map[string]string{"tier": "0"}},
		kvregistry.Service{ID: "spare", Metadata: map[string]string{"tier": "1"}},
	)
	defer stop()
	look, err := reg.Lookup("httptest", pick.Tiers(pick.ByMetadata("tier"), pick.RoundRobin()))
	fmt.Println(picks(look, err, 3, kvregistry.Request{}))
	gone := kvregistry.Service{ID: "main", Name: "httptest", Address: "10.0.0.1:80",
		Status: kvregistry.Draining}
	if err := reg.Update(gone); err != nil {
		log.Fatal(err)
	}
	fmt.Println(picks(look, err, 3, kvregistry.Request{}))
	// Output:
	// main main main
	// spare spare spare
}

func ExampleCanary() {
	reg, stop := connected(
		kvregistry.Service{ID: "1", Version: "1.0"}, kvregistry.Service{ID: "2", Version: "1.0"},
		kvregistry.Service{ID: "new", Version: "1.1"},
	)
	defer stop()
	look, err := reg.Lookup("httptest", pick.Canary(5, kvregistry.WithVersion("1.1"),
		pick.RoundRobin()))
	fmt.Printf("%.2f\n", share(picks(look, err, 10_000, kvregistry.Request{}), "new"))
	// Output: 0.05
}
