package page

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

const (
	batchTime  = 100 * time.Millisecond // between two batches of changes to a client
	healthTime = time.Second            // between two words about the health
	stuckTime  = 20 * time.Second       // after which a client that takes nothing is dropped
	batchBytes = 64 << 10               // of one event, about
)

// stream sends the catalog to one client as server-sent events: "hello" first, "change" for what is
// there, "synced", and then "change" for each change and "health" every second.
//
// What is known of the client is the last catalog that it was sent. So a slow client is sent the
// difference between that and the newest one, and nothing queues up for it.
func (h *handler) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case h.clients <- struct{}{}:
		defer func() { <-h.clients }()
	default:
		w.Header().Set("Retry-After", "5")
		fail(w, http.StatusServiceUnavailable,
			fmt.Sprintf("%d pages are open: close one", cap(h.clients)))
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	woken := make(chan struct{}, 1)
	done := make(chan struct{})
	defer func() { cancel(); <-done }()
	go func() { // ends with the request or the registry
		defer close(done)
		defer cancel()
		for _, err := range h.reg.Catalogs(ctx) {
			if err != nil {
				return
			}
			select {
			case woken <- struct{}{}:
			default: // it is awake
			}
		}
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	c := &client{w: w, out: http.NewResponseController(w), h: h}
	c.err = c.out.SetWriteDeadline(time.Now().Add(stuckTime))
	c.event("hello", hello{h.cfg.Tenant, h.token, h.cfg.Drain != nil, h.cfg.Deregister != nil,
		h.cfg.Holds != nil, h.cfg.Examine != nil})
	c.follow(ctx, woken)
}

// hello is what the page learns first.
type hello struct {
	Tenant     string `json:"tenant"`
	Token      string `json:"token"`
	Drain      bool   `json:"drain"`
	Deregister bool   `json:"deregister"`
	Holds      bool   `json:"holds"`
	Doctor     bool   `json:"doctor"`
}

// client is a page that is open.
type client struct {
	w    http.ResponseWriter
	out  *http.ResponseController
	h    *handler
	sent *kvregistry.Catalog // that the client has; nil: none
	buf  bytes.Buffer
	err  error // the client is gone
}

// follow sends what changes, until the client or the registry is gone.
func (c *client) follow(ctx context.Context, woken <-chan struct{}) {
	health := time.NewTicker(healthTime)
	defer health.Stop()
	c.health()
	var wait <-chan time.Time // until the next batch may be sent
	for c.err == nil {
		ready := woken
		if wait != nil {
			ready = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-health.C:
			c.health()
		case <-wait:
			wait = nil
		case <-ready:
			c.batch(ctx)
			wait = time.After(batchTime)
		}
	}
}

// batch sends what differs between what the client has and the newest catalog.
func (c *client) batch(ctx context.Context) {
	now, err := c.h.reg.CatalogContext(ctx)
	if err != nil || now == c.sent {
		return
	}
	for part := range changes(c.sent, now) {
		if c.event("change", part); c.err != nil {
			return
		}
	}
	c.event("synced", synced{now.Revision(), now.Len(), now.Stale(), c.h.past.newest()})
	c.sent = now
	c.flush()
}

// synced says that the client has a whole catalog.
type synced struct {
	Revision uint64 `json:"revision"`
	Services int    `json:"services"`
	Stale    bool   `json:"stale"`
	Change   uint64 `json:"change"` // the number of the newest change that is kept
}

func (c *client) health() {
	c.event("health", c.h.words())
	c.flush()
}

// event adds an event to what is sent.
func (c *client) event(kind string, value any) {
	body, err := json.Marshal(value) // one line: JSON escapes the ends of lines
	if err != nil {
		return // it can't be: each value has JSON
	}
	fmt.Fprintf(&c.buf, "event: %s\ndata: %s\n\n", kind, body)
	if c.buf.Len() > batchBytes {
		c.flush()
	}
}

// flush sends what was added.
func (c *client) flush() {
	if c.err == nil {
		c.err = c.out.SetWriteDeadline(time.Now().Add(stuckTime))
	}
	if c.err == nil {
		_, c.err = c.w.Write(c.buf.Bytes())
	}
	if c.err == nil {
		c.err = c.out.Flush()
	}
	c.buf.Reset()
}
