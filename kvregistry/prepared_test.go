package kvregistry_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// A look-up is prepared once, and an instance whose calls fail is set aside.
func ExampleRegistry_Lookup() {
	nc, stop := connect()
	defer stop()
	reg, err := kvregistry.New(context.Background(), nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	for _, s := range []kvregistry.Service{
		{ID: "1", Name: "httptest", Address: "10.0.0.1:80", Tags: []string{"public"}},
		{ID: "2", Name: "httptest", Address: "10.0.0.2:80", Tags: []string{"public"}},
		{ID: "3", Name: "httptest", Address: "10.0.0.3:80"},
	} {
		if _, err := reg.Register(s); err != nil {
			log.Fatal(err)
		}
	}

	look, err := reg.Lookup("httptest", kvregistry.WithTag("public"),
		kvregistry.Outcome{Failures: 2, Aside: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	for range 10 { // each call
		s, done, err := look.Pick(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		if s.ID == "2" {
			done(errors.New("connection refused"))
		} else {
			done(nil)
		}
	}
	for _, i := range look.Health().Instances {
		fmt.Println(i.ID, i.Aside)
	}
	// Output:
	// 1 false
	// 2 true
}

func prepare(t *testing.T, r *kvregistry.Registry, parts ...kvregistry.Part) *kvregistry.Lookup {
	t.Helper()
	l, err := r.Lookup("web", parts...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func open(t *testing.T, s *natstest.Server, opts ...kvregistry.Option) *kvregistry.Registry {
	t.Helper()
	r, err := kvregistry.New(t.Context(), s.Connect(), append(opts,
		kvregistry.Logger(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// A prepared look-up gives what GetServices would, after every change, and returns the same errors.
// Seen to fail if the first preparation is kept, and without the choice by status.
func TestPreparedLookupIsAsGetServices(t *testing.T) {
	s := natstest.Start(t)
	owner, r := open(t, s), open(t, s)
	all, some := prepare(t, r), prepare(t, r, kvregistry.InZone("a"))
	drained := prepare(t, r, kvregistry.WithStatus(kvregistry.Draining))
	same := func() {
		t.Helper()
		natstest.Eventually(t, natstest.Soon, func() error {
			for _, tc := range []struct {
				look    *kvregistry.Lookup
				filters []kvregistry.Filter
			}{
				{all, nil}, {some, []kvregistry.Filter{kvregistry.InZone("a")}},
				{drained, []kvregistry.Filter{kvregistry.WithStatus(kvregistry.Draining)}},
			} {
				want, wantErr := r.GetServices(t.Context(), "web", tc.filters...)
				got, err := given(tc.look)
				if fmt.Sprint(err) != fmt.Sprint(wantErr) || !slices.Equal(got, ids(want)) {
					return fmt.Errorf("picked %q, %v; want %q, %v", got, err, ids(want), wantErr)
				}
				theirs, _ := owner.GetServices(t.Context(), "web", tc.filters...)
				if !slices.Equal(got, ids(theirs)) {
					return fmt.Errorf("picked %q, and the owner sees %q", got, ids(theirs))
				}
			}
			return nil
		})
	}
	same()
	var leave func() error
	for _, one := range []kvregistry.Service{
		{ID: "1", Zone: "a"}, {ID: "2", Zone: "b", Status: kvregistry.Warning},
		{ID: "3", Zone: "a"}, {ID: "4", Zone: "a", Status: kvregistry.Draining},
	} {
		one.Name, one.Address = "web", "10.0.0.1:80"
		var err error
		if leave, err = owner.Register(one); err != nil {
			t.Fatal(err)
		}
		same()
	}
	for _, change := range []func() error{
		leave,
		func() error {
			return owner.Update(kvregistry.Service{ID: "1", Name: "web", Address: "10.0.0.9:80",
				Zone: "b"})
		},
		func() error { return owner.SetStatus("web", kvregistry.Warning) },
		func() error { return owner.SetStatus("web", kvregistry.Draining) },
		func() error { return owner.Unregister("web") },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		same()
	}
}

// given returns the ids of the instances that a look-up gives in 100 calls, and its error.
func given(l *kvregistry.Lookup) (list []string, err error) {
	for range 100 {
		s, done, err := l.Pick(context.Background())
		if err != nil {
			return nil, err
		}
		done(nil)
		if !slices.Contains(list, s.ID) {
			list = append(list, s.ID)
		}
	}
	slices.Sort(list)
	return list, nil
}

func ids(list []kvregistry.Service) (ids []string) {
	for _, s := range list {
		ids = append(ids, s.ID)
	}
	return ids
}

// A retry takes no turn: each instance is the first choice equally often, even if one of them
// refuses. Seen to fail with a retry that takes one of the calls' turns.
func TestRetriesTakeNoTurns(t *testing.T) {
	r := open(t, natstest.Start(t))
	for i := range 3 {
		if _, err := r.Register(kvregistry.Service{ID: fmt.Sprint(i), Name: "web",
			Address: fmt.Sprintf("h:1%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	l, first := prepare(t, r, kvregistry.Outcome{Failures: -1}), map[string]int{}
	for range 90 {
		s, done, err := l.Pick(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		done(nil)
		if first[s.ID]++; s.ID != "0" {
			continue
		}
		again, done, err := l.PickWith(t.Context(), kvregistry.Request{Not: []string{s.ID}})
		if err != nil || again.ID == s.ID {
			t.Fatal(again.ID, err)
		}
		done(nil)
	}
	if first["0"] != 30 || first["1"] != 30 || first["2"] != 30 {
		t.Errorf("asked first: %v, want 30 each", first)
	}
}

// A prepared look-up returns the errors of a look-up: unknown, not found, and too old. It can be
// prepared while there is no server. Seen to fail without the check of the age, and of the
// registry's end.
func TestPreparedLookupTellsWhy(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	s.Down()
	natstest.Eventually(t, natstest.Soon, func() error {
		if nc.IsConnected() {
			return errors.New("still connected")
		}
		return nil
	})
	r, err := kvregistry.New(t.Context(), nc, kvregistry.MaxStale(2*time.Second),
		kvregistry.Timeout(50*time.Millisecond), kvregistry.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	l := prepare(t, r)
	is := func(want error) func() error {
		return func() error {
			_, done, err := l.Pick(t.Context())
			if done != nil || !errors.Is(err, want) {
				return fmt.Errorf("%w, want %w", err, want)
			}
			return nil
		}
	}
	if err := is(kvregistry.ErrUnavailable)(); err != nil {
		t.Error(err)
	}
	if h := l.Health(); len(h.Instances) > 0 {
		t.Errorf("%+v of a service that was not read", h)
	}
	s.Up()
	natstest.Eventually(t, natstest.Soon, is(kvregistry.ErrNotFound))
	s.Down()
	natstest.Eventually(t, natstest.Soon, is(kvregistry.ErrStale))
	// without a registration the close takes nothing back
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_ = r.CloseContext(ctx)
	if err := is(kvregistry.ErrClosed)(); err != nil {
		t.Error(err)
	}
	if _, err := r.Lookup("web"); !errors.Is(err, kvregistry.ErrClosed) {
		t.Errorf("Lookup after Close: %v", err)
	}
}

// An invalid look-up is refused, and the error says why.
func TestLookupRefuses(t *testing.T) {
	r := open(t, natstest.Start(t))
	for _, name := range []string{"", kvregistry.Everything} {
		if _, err := r.Lookup(name); !errors.Is(err, kvregistry.ErrInvalidService) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if _, err := r.Lookup("web", nil); !errors.Is(err, kvregistry.ErrInvalidOption) {
		t.Error(err)
	}
}

// The outcomes that a look-up counts stay with it. Nothing is written to the bucket, and another
// look-up still picks the instance. Seen to fail with a setAside that sets the status, too.
func TestOutcomeStaysHere(t *testing.T) {
	s := natstest.Start(t)
	r := open(t, s)
	for _, id := range []string{"1", "2"} {
		if _, err := r.Register(kvregistry.Service{ID: id, Name: "web",
			Address: "10.0.0.1:80"}); err != nil {
			t.Fatal(err)
		}
	}
	one, other := prepare(t, r, kvregistry.Outcome{Failures: 1, Aside: time.Minute}), prepare(t, r)
	if _, err := given(other); err != nil {
		t.Fatal(err)
	}
	nc := s.Connect()
	writes, err := nc.SubscribeSync("$KV.registry_default.svc.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	gone, done, err := one.Pick(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done(errors.New("connection refused"))
	if got, err := given(one); err != nil || len(got) != 1 || got[0] == gone.ID {
		t.Errorf("after a failure of %s calls go to %q, %v", gone.ID, got, err)
	}
	if got, err := given(other); err != nil || len(got) != 2 {
		t.Errorf("calls of another look-up go to %q, %v", got, err)
	}
	if msg, err := writes.NextMsg(100 * time.Millisecond); err == nil {
		t.Errorf("%s was written", msg.Subject)
	}
}
