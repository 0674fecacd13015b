package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// On an open server a mistyped tenant name makes a bucket of its own. The error of a look-up then
// names the tenant and the bucket that was just made, and one log line does. A registry that finds
// a bucket logs none. Seen to fail without the age of the bucket, and with a line for each
// registry.
func TestTenantThatIsMistyped(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	mustRegister(t, newRegistry(t, s, Tenant("payments")), Service{ID: "a", Name: "web",
		Address: "h:1"})
	const line = "the tenant had no bucket, made one"
	var log natstest.Log
	open := func(tenant string) *Registry {
		return newRegistry(t, s, Tenant(tenant), Logger(log.Logger()))
	}

	check := func(r *Registry, tenant string, made bool) {
		t.Helper()
		lookup, err := r.Lookup("web")
		if err != nil {
			t.Fatal(err)
		}
		_, _, picked := lookup.Pick(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		for what, err := range map[string]error{
			"GetService":         second(r.GetService("web")),
			"GetServices":        second(r.GetServices(t.Context(), "web")),
			"GetService, filter": second(r.GetService("web", InZone("z"))),
			"Pick":               picked,
			"WaitFor":            second(r.WaitFor(ctx, "web", 1)),
		} {
			if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(),
				fmt.Sprintf("tenant %q", tenant)) {
				t.Errorf("%s: %v", what, err)
			}
			if strings.Contains(err.Error(), "this registry made it") != made {
				t.Errorf("%s, of a bucket that it made (%v): %v", what, made, err)
			}
		}
	}
	check(open("paymets"), "paymets", true)
	check(open("paymets"), "paymets", false)
	natstest.Eventually(t, natstest.Soon, func() error {
		if n := log.Count(line); n != 1 {
			return fmt.Errorf("%d lines name it", n)
		}
		return nil
	})
	if lines := log.With(line); !strings.Contains(lines[0], "tenant=paymets") ||
		!strings.Contains(lines[0], "bucket=registry_paymets") {
		t.Errorf("the line is %q", lines[0])
	}

	r := open("payments")
	if err := r.ObserveContext(t.Context(), "api"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.GetService("api"); !errors.Is(err, ErrNotFound) ||
		strings.Contains(err.Error(), "made it") {
		t.Errorf("of a bucket that was there: %v", err)
	}
	if n := log.Count(line); n != 1 {
		t.Errorf("%d lines name it", n)
	}
}
