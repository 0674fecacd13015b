package browse

import (
	"context"
	"fmt"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// readGone returns the ends of instances after a revision that the bucket still tells of, in order.
// It knows only the service and the id of each.
func readGone(ctx context.Context, b *tenant.Bucket, name string, since uint64) (
	list []kvregistry.Event, err error) {
	filter := tenant.AllServices
	if name != kvregistry.Everything {
		if filter, err = tenant.ServiceFilter(name); err != nil {
			return nil, err
		}
	}
	state, err := b.Scan(ctx, filter, func(m tenant.Message) {
		service, id, ok := tenant.ParseServiceKey(m.Key)
		if !ok || m.Op == tenant.Put || m.Op == tenant.Expire || m.Revision <= since {
			return // a server's marker stands for a tombstone that has ended, and is newer
		}
		kind := kvregistry.Expired
		if m.Op == tenant.Delete {
			kind = kvregistry.Unregistered
		}
		list = append(list, kvregistry.Event{Kind: kind, Revision: m.Revision,
			Service: kvregistry.Service{Name: service, ID: id}})
	})
	if err == nil && since > state.Last {
		err = fmt.Errorf("--since %d is above the bucket's last revision, %d: the bucket was "+
			"recreated; begin again without --since", since, state.Last)
	}
	return list, err
}
