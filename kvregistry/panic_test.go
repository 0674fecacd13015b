package kvregistry

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/kvregistry/go/internal/natstest"
)

// here returns the name of the goroutine that calls it.
func here() string {
	stack := make([]byte, 64)
	line, _, _ := strings.Cut(string(stack[:runtime.Stack(stack, false)]), "[")
	return line
}

// ends runs f on a goroutine of its own, and returns its panic value, or how it ended.
func ends(f func()) string {
	done := make(chan string)
	go func() {
		end := "ended"
		defer func() {
			if p := recover(); p != nil {
				end = fmt.Sprint(p)
			}
			done <- end
		}()
		f()
		end = "returned"
	}()
	return <-done
}

// panicSigner panics when it is set to.
type panicSigner struct {
	nkeys.KeyPair
	do func()
}

func (s *panicSigner) Sign(data []byte) ([]byte, error) {
	if s.do != nil {
		s.do()
	}
	return s.KeyPair.Sign(data)
}

// A panic of a user's function, or its Goexit, reaches the caller that waits for it. The caller may
// recover, and the registry goes on. Seen to fail with functions that goroutines of the registry
// call: the process ended.
func TestUserFunctionThatPanics(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	pair := keyPair(t)
	signer := &panicSigner{KeyPair: pair}
	r := newRegistry(t, s, SignWith(signer))
	a, b := Service{ID: "a", Name: "web", Address: "h:1"}, Service{ID: "b", Name: "web",
		Address: "h:2"}
	for how, do := range map[string]func(){
		"oops":  func() { panic("oops") },
		"ended": runtime.Goexit,
	} {
		for name, call := range map[string]func(){
			"UpdateFunc of one": func() {
				_ = r.UpdateFunc(t.Context(), "web", "a", func(*Service) { do() })
			},
			"UpdateFunc of two": func() {
				_ = r.UpdateFunc(t.Context(), "web", "", func(*Service) { do() })
			},
			"Until": func() {
				_ = r.Drain(t.Context(), Settle(0), Only("web", "b"),
					Until(func(context.Context) error { do(); return nil }))
			},
			"Sign of one": func() {
				signer.do = do
				_, _ = r.Register(Service{ID: "c", Name: "web", Address: "h:3"})
			},
			"Sign of two": func() {
				signer.do = do
				_, _ = r.RegisterAll(t.Context(), Service{ID: "c", Name: "web", Address: "h:3"},
					Service{ID: "d", Name: "web", Address: "h:3"})
			},
		} {
			mustRegister(t, r, a, b)
			if got := ends(call); got != how {
				t.Errorf("%s: %s, want %s", name, got, how)
			}
			signer.do = nil
			if name == "Until" {
				statuses(t, r, "web", "a passing")
			}
			if err := r.Unregister("web"); err != nil {
				t.Error(err)
			}
			statuses(t, r, "web")
		}
	}
}

// UpdateFunc calls its function on the caller's goroutine, and the function may call the registry.
// Seen to fail with a goroutine for each instance, and with a call that holds the registrations'
// lock.
func TestUpdateFuncIsTheCallers(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := newRegistry(t, s)
	mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"},
		Service{ID: "b", Name: "web", Address: "h:2"})
	caller := here()
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
	defer cancel()
	nested := false
	err := r.UpdateFunc(ctx, "web", "", func(s *Service) {
		if got := here(); got != caller {
			t.Errorf("called by %s, not by %s", got, caller)
		}
		s.Version = "2"
		if nested {
			return
		}
		nested = true
		_ = r.Health()
		if len(r.RegisteredServices()) != 2 {
			t.Error("the registered instance can't be seen")
		}
		if err := r.UpdateFunc(ctx, "web", "", func(s *Service) { s.Zone = "z" }); err != nil {
			t.Error(err)
		}
		if err := r.SetStatusContext(ctx, "web", Warning); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.RegisteredServices() {
		if s.Version != "2" || s.Zone != "z" || s.Status != Warning {
			t.Errorf("a change is lost: %+v", s)
		}
	}
}
