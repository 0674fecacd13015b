package tenant

import (
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/kvregistry/go/internal/natstest"
)

// A leaf node's server answers for the connection between the servers. That answer is not taken for
// this user's. Seen to fail if the first answer is taken.
func TestPermissionsBesideALeafNode(t *testing.T) {
	t.Parallel()
	port := natstest.FreePort(t)
	hub := natstest.Start(t, func(o *server.Options) {
		o.ServerName, o.JetStreamDomain = "hub", "hub"
		o.LeafNode = server.LeafNodeOpts{Host: "127.0.0.1", Port: port, NoAdvertise: true}
	})
	remote := &url.URL{Scheme: "nats-leaf", Host: fmt.Sprintf("127.0.0.1:%d", port)}
	leaf := natstest.Start(t, func(o *server.Options) {
		o.ServerName, o.JetStreamDomain = "leaf", "leaf"
		o.LeafNode.Remotes = []*server.RemoteLeafOpts{{URLs: []*url.URL{remote},
			DenyImports: []string{"$JS.M.>"}}}
	})
	natstest.Eventually(t, natstest.Soon, func() error {
		if leaf.Server().NumLeafNodes() == 0 || hub.Server().NumLeafNodes() == 0 {
			return errors.New("the leaf node has no connection")
		}
		return nil
	})
	b, err := New(hub.Connect(), "acme", Config{})
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		if !b.may(t.Context(), b.creates()) {
			t.Fatal("a user without permissions may not make a bucket")
		}
	}
}
