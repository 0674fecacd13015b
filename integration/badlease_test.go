package integration

import (
	"testing"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 9: a record whose lease can be no key is one that can't be read. It keeps nobody from
// starting, and no reaper from removing the dead. Seen to fail with records that may name any
// lease: New failed for everybody, and no reaping ended.
func TestLeaseThatCanBeNoKey(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	if err := open(t, s).Close(); err != nil { // which makes the bucket
		t.Fatal(err)
	}
	kv := bucket(t, s.Connect(), kvregistry.DefaultTenant)
	for id, lease := range map[string]string{"space": "a b", "dot": "x.", "wild": ">", "dead": "NEVERWAS"} {
		doc := `{"format":1,"owner":"O","lease":"` + lease + `","instance":{"id":"` + id + `","name":"web","address":"127.0.0.1:1"}}`
		if _, err := kv.PutString(t.Context(), "svc.web."+id, doc); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, s)
	if _, err := r.GetService("web"); !isErr(err, kvregistry.ErrNotFound) {
		t.Errorf("a look-up gave %v, want ErrNotFound", err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if _, err := kv.Get(t.Context(), "svc.web.dead"); err == nil {
			return errStill
		}
		return nil
	})
}
