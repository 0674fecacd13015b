package semver_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/semver"
)

// A constraint compares versions by their numbers. Seen to fail with versions that are compared
// byte by byte.
func TestConstraint(t *testing.T) {
	for _, tc := range []struct {
		constraint string
		meet, not  []string
	}{
		{">= 1.9, < 2", []string{"1.9", "v1.9.0", "1.10.0", "1.9.3+build7"},
			[]string{"1.8.9", "2.0.0", "1.10.0-rc.1", "", "latest", "1.9.x"}},
		{"^1.4", []string{"1.4.0", "1.99"}, []string{"1.3", "2.0.0"}},
		{"~2.1.3", []string{"2.1.3", "2.1.20"}, []string{"2.2.0"}},
		{"1.x || >= 3", []string{"1.7", "3.0.0", "4"}, []string{"2.9.9"}},
		{">= 2.0.0-0", []string{"2.0.0-rc.1", "2.0.0"}, []string{"1.9.9"}},
		{"1.2.3", []string{"1.2.3", "v1.2.3"}, []string{"1.2.4"}},
	} {
		f, err := semver.Constraint(tc.constraint)
		if err != nil {
			t.Error(err)
			continue
		}
		for i, list := range [][]string{tc.meet, tc.not} {
			for _, v := range list {
				if want := i == 0; f.Match(kvregistry.Service{Version: v}) != want {
					t.Errorf("version %q meets %q: want %t", v, tc.constraint, want)
				}
			}
		}
	}
	for _, bad := range []string{"", "new", ">= one", "1.2.3.4.5", ">> 1"} {
		if _, err := semver.Constraint(bad); !errors.Is(err, kvregistry.ErrInvalidOption) {
			t.Errorf("constraint %q: %v", bad, err)
		}
	}
}

func ExampleConstraint() {
	url, stop := natstest.Run() // it stands for a server
	defer stop()
	nc, err := nats.Connect(url)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	for _, version := range []string{"1.4.2", "1.10.0", "2.0.0"} {
		if _, err := reg.Register(kvregistry.Service{ID: version, Name: "web",
			Address: "10.0.0.1:80", Version: version}); err != nil {
			log.Fatal(err)
		}
	}

	atLeast, err := semver.Constraint(">= 1.5, < 2")
	if err != nil {
		log.Fatal(err)
	}
	one, err := reg.GetService("web", atLeast)
	fmt.Println(one.Version, err)
	_, err = semver.Constraint("?")
	fmt.Println(err)
	// Output:
	// 1.10.0 <nil>
	// semver: invalid option: constraint "?": improper constraint: "?"; write it as ">= 1.2, < 2"
}
