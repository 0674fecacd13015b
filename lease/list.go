package lease

import (
	"context"
	"time"

	"github.com/kvregistry/go/tenant"
)

// Info is a lease as the bucket has it.
type Info struct {
	ID    string
	Value []byte        // that its owner gave it
	TTL   time.Duration // after its last renewal
	Age   time.Duration // since its last renewal, by the server's clock
}

// List reads the leases of a bucket, in no order. The errors are those of [tenant.Bucket.Scan].
func List(ctx context.Context, b *tenant.Bucket) ([]Info, error) {
	asked := time.Now()
	type found struct {
		Info
		renewed time.Time
	}
	byID := map[string]found{}
	state, err := b.Scan(ctx, tenant.AllLeases, func(m tenant.Message) {
		id, ok := tenant.ParseLeaseKey(m.Key)
		if !ok {
			return
		}
		delete(byID, id)
		if m.Op == tenant.Put {
			byID[id] = found{Info{ID: id, Value: append([]byte(nil), m.Value...), TTL: m.TTL()},
				m.Time()}
		}
	})
	if err != nil {
		return nil, err
	}
	now := state.Now.Add(time.Since(asked))
	list := make([]Info, 0, len(byID))
	for _, one := range byID {
		one.Age = max(0, now.Sub(one.renewed))
		list = append(list, one.Info)
	}
	return list, nil
}
