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

const (
	listBeat   = 100 * time.Millisecond // after which the server says that there are no more
	deleteTime = time.Second            // bounds the removal of a consumer, which ends by itself
)

// List reads the leases of a bucket, in no order. The errors are ctx's, [tenant.ErrGap] and those
// of [tenant.Bucket.Ensure].
func List(ctx context.Context, b *tenant.Bucket) ([]Info, error) {
	state, err := b.State(ctx)
	if err != nil {
		return nil, err
	}
	asked := time.Now()
	found := map[string]Info{} // of the feed's goroutine, until done
	done := make(chan error, 1)
	end := func(err error) {
		select {
		case done <- err:
		default:
		}
	}
	ended := false
	feed, err := b.OpenFeed(ctx, tenant.FeedConfig{
		Name: "view-", Keys: []string{tenant.AllLeases}, Heartbeat: listBeat,
		Message: func(m tenant.Message) {
			id, ok := tenant.ParseLeaseKey(m.Key)
			if ended || !ok {
				return
			}
			delete(found, id)
			if m.Op == tenant.Put {
				now := state.Now.Add(time.Since(asked))
				found[id] = Info{ID: id, Value: append([]byte(nil), m.Value...), TTL: m.TTL(),
					Age: max(0, now.Sub(m.Time()))}
			}
		},
		Mark: func(upTo uint64) {
			if upTo >= state.Last { // the consumer has looked at everything, and has no more
				ended = true
				end(nil)
			}
		},
		Lost: end,
	})
	if feed != nil {
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTime)
			defer cancel()
			_ = feed.Delete(ctx)
		}()
		defer feed.Close()
	}
	if err != nil {
		return nil, err
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	list := make([]Info, 0, len(found))
	for _, one := range found {
		list = append(list, one)
	}
	return list, nil
}
