package doctor

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant"
)

var viewFaults = []fault{
	{"flapping", Warning, "views are younger than 5s", func(t *testing.T) (*nats.Conn, Config) {
		s := start(t)
		register(t, process(t, login(s)), "web", "1", here)
		for range fewViews + 1 {
			nc := login(s)
			must(t, process(t, nc).Observe("web"))
			repeat(t, func() {
				_ = nc.ForceReconnect()
				time.Sleep(time.Second / 2) // between two faults
			})
		}
		return login(s), Config{young: 5 * time.Second} // sessions begin within 2 s
	}},
	// a subscriber that leaves flow control unanswered, as one does that is stuck
	{"slow-consumers", Warning, "view-slow with", func(t *testing.T) (*nats.Conn, Config) {
		nc := login(start(t))
		provision(t, nc, tenant.Config{})
		sub, err := nc.SubscribeSync("slow")
		must(t, err)
		js, err := jetstream.New(nc)
		must(t, err)
		_, err = js.CreatePushConsumer(t.Context(), stream, jetstream.ConsumerConfig{
			Name: "view-slow", DeliverSubject: sub.Subject, AckPolicy: jetstream.AckNonePolicy,
			FlowControl: true, IdleHeartbeat: time.Second, InactiveThreshold: time.Minute,
		})
		must(t, err)
		for n := range 100 {
			put(t, nc, "svc.web."+string(rune('a'+n%26))+string(rune('a'+n/26)),
				string(make([]byte, 60_000)), 0)
		}
		return nc, Config{}
	}},
}
