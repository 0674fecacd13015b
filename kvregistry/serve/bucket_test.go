package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// A server whose process started before NATS, and whose user may not make the missing bucket,
// returns an error that says so. Seen to fail with an error that lists the user's permissions.
func TestServesWithoutABucket(t *testing.T) {
	t.Parallel()
	access, err := operator.Permissions(kvregistry.DefaultTenant, operator.RoleService)
	if err != nil {
		t.Fatal(err)
	}
	conf := natstest.Configured(t, fmt.Sprintf("authorization: {users: [{user: web, password: p, "+
		"%s}]}", access.Config()))
	s := natstest.Start(t, func(o *natsserver.Options) { o.Users = conf.Users })
	s.Down()
	nc := s.Connect(nats.UserInfo("web", "p"), nats.CustomInboxPrefix(access.Inbox),
		nats.RetryOnFailedConnect(true))
	reg, err := kvregistry.New(t.Context(), nc, kvregistry.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	s.Up()
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := reg.Health(); h.Refused == nil {
			return fmt.Errorf("Health is %+v", h)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
	defer cancel()
	err = HTTP(ctx, reg, &http.Server{Addr: "127.0.0.1:0"}, kvregistry.Service{Name: "web"},
		Signals())
	if !errors.Is(err, tenant.ErrBucketNotFound) || !errors.Is(err, kvregistry.ErrPermission) ||
		!strings.Contains(err.Error(), "have an admin make it") {
		t.Errorf("HTTP gave %v", err)
	}
}
