package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant/operator"
)

// hostile is a user of tenant acme with a raw connection.
type hostile struct {
	*guarded
	t       *testing.T
	role    operator.Role
	nc      *nats.Conn
	refused *refusals
}

// send publishes a request whose answer goes to another subject.
func (h *hostile) send(subject, reply, body string) {
	h.t.Helper()
	must(h.t, h.nc.PublishRequest(subject, reply, []byte(body)))
}

// ask makes a request and returns its answer, or nil if there is none. The server has then handled
// all earlier messages on the same subject.
func (h *hostile) ask(subject, body string) (answer *nats.Msg) {
	h.t.Helper()
	inbox := h.nc.NewInbox()
	sub, err := h.nc.SubscribeSync(inbox)
	must(h.t, err)
	defer func() { _ = sub.Unsubscribe() }()
	h.send(subject, inbox, body)
	natstest.Eventually(h.t, natstest.Soon, func() error {
		if h.refused.has(subject) {
			return nil
		}
		var err error
		answer, err = sub.NextMsg(10 * time.Millisecond)
		if errors.Is(err, nats.ErrNoResponders) {
			return nil
		}
		return err
	})
	return answer
}

// settle waits until the server has read all messages and handled all JetStream requests.
func (h *hostile) settle() {
	h.t.Helper()
	must(h.t, h.nc.Flush())
	natstest.Eventually(h.t, natstest.Soon, func() error {
		info, err := h.Server.Server().Jsz(&server.JSzOptions{})
		if err == nil && info.API.Inflight > 0 {
			err = fmt.Errorf("%d requests wait", info.API.Inflight)
		}
		return err
	})
}

// requests sends every request that a client can send. The answers go to requests for the other
// tenant's stream and, unless an answer is known to come, to its keys.
func (h *hostile) requests() {
	h.t.Helper()
	for subject := range raw() {
		if subject == "$JS.API.STREAM.DELETE.KV_registry_acme" {
			continue // see end
		}
		targets := []string{otherPurge, otherDelete, otherInbox + ".x"}
		if !answered(h.role, subject) {
			targets = append(targets, otherKey)
		}
		for _, target := range targets {
			for _, body := range []string{
				"", "{}", `{"seq":1}`, `{"last_by_subj":"$KV.registry_acme.>"}`,
				`{"next_by_subj":"$KV.registry_acme.>"}`, `{"batch":1,"no_wait":true}`, "+ACK",
				"+NXT",
			} {
				h.send(subject, target, body)
			}
			for _, header := range []nats.Header{
				{"Nats-Rollup": {"sub"}, "KV-Operation": {"PURGE"}},
				{"Nats-Trace-Dest": {target}},
				{"Nats-Trace-Dest": {target}, "Nats-Trace-Only": {"true"}},
			} {
				msg := nats.NewMsg(subject)
				msg.Reply, msg.Header = target, header
				must(h.t, h.nc.PublishMsg(msg))
				msg.Reply = ""
				must(h.t, h.nc.PublishMsg(msg))
			}
		}
	}
	for _, key := range []string{"svc.web.a", "svc.web.b", "lease.x", "sweep", "x"} {
		for _, header := range []nats.Header{
			{"Nats-Rollup": {"all"}}, {"Nats-Rollup": {"sub"}},
			{"KV-Operation": {"PURGE"}}, {"Nats-TTL": {"1s"}},
		} {
			msg := nats.NewMsg("$KV.registry_other." + key)
			msg.Header = header
			must(h.t, h.nc.PublishMsg(msg))
		}
	}
}

// settings asks for stream settings that copy one tenant into the other. An admin may change acme's
// settings, and is trusted with the account.
func (h *hostile) settings() {
	h.t.Helper()
	for _, op := range []string{"CREATE", "UPDATE"} {
		for _, stream := range []string{"KV_registry_acme", "KV_registry_other"} {
			if h.role == operator.RoleAdmin && stream == "KV_registry_acme" {
				continue
			}
			for _, settings := range []string{
				`"subjects":["$KV.registry_acme.>"],` +
					`"republish":{"src":">","dest":"$KV.registry_other.>"}`,
				`"subjects":["$KV.registry_acme.>","$KV.registry_other.>"]`,
				`"sources":[{"name":"KV_registry_acme"}]`,
				`"mirror":{"name":"KV_registry_other"}`,
			} {
				body := fmt.Sprintf(`{"name":%q,"max_msgs_per_subject":1,%s}`, stream, settings)
				if answer := h.ask("$JS.API.STREAM."+op+"."+stream, body); answer != nil {
					h.t.Errorf("%s may ask for the settings of stream %s: %s", h.role, stream,
						answer.Data)
				}
			}
		}
	}
}

// creates asks for a consumer by each form of the request, and reports whether one was granted.
func (h *hostile) creates(config jetstream.ConsumerConfig) (granted bool) {
	h.t.Helper()
	const stream = "KV_registry_acme"
	name := config.Name
	for _, form := range []string{
		"CREATE." + stream + "." + name, "CREATE." + stream + "." + name + ".$KV.registry_acme.>",
		"CREATE." + stream, "DURABLE.CREATE." + stream + "." + name,
	} {
		c := config
		if strings.HasSuffix(form, ">") {
			c.FilterSubject = "$KV.registry_acme.>"
		}
		if strings.HasPrefix(form, "DURABLE") {
			c.Durable = name
		}
		body, err := json.Marshal(map[string]any{"stream_name": stream, "config": c})
		must(h.t, err)
		answer := h.ask("$JS.API.CONSUMER."+form, string(body))
		granted = granted || answer != nil && !strings.Contains(string(answer.Data), `"error"`)
	}
	return granted
}

// pushes creates push consumers of acme's stream that deliver to the other tenant. The server
// grants them to a user that observes, unless they deliver to JetStream, because it does not
// compare the deliver subject with the user's permissions. But the server delivers only while there
// is a subscription to exactly that subject, without wildcards.
func (h *hostile) pushes() {
	h.t.Helper()
	reads := slices.Contains(readers, h.role)
	for i, target := range []string{
		otherKey, "$KV.registry_other.svc.web.a", otherPurge, otherDelete, otherInbox + ".x",
		"$JS.API.CONSUMER.CREATE.KV_registry_other.x",
	} {
		for _, group := range []string{"", "x"} {
			config := jetstream.ConsumerConfig{
				Name: fmt.Sprint("view-push-", i, group), DeliverSubject: target,
				DeliverGroup:  group,
				IdleHeartbeat: 100 * time.Millisecond, FlowControl: true,
			}
			request := strings.HasPrefix(target, "$JS.")
			if granted := h.creates(config); granted != (reads && !request) {
				h.t.Errorf("a consumer that delivers to %s was granted: %t", target, granted)
			}
		}
	}
	cycle := jetstream.ConsumerConfig{Name: "view-cycle",
		DeliverSubject: "$KV.registry_acme.svc.x.y"}
	if h.creates(cycle) {
		h.t.Error("a consumer was granted that delivers to its own stream")
	}
	own := jetstream.ConsumerConfig{
		Name: "view-own", DeliverSubject: h.nc.NewInbox(), IdleHeartbeat: 100 * time.Millisecond,
	}
	sub, err := h.nc.SubscribeSync(own.DeliverSubject)
	must(h.t, err)
	if granted := h.creates(own); granted != reads {
		h.t.Errorf("a consumer that delivers to its creator was granted: %t", granted)
	}
	// the other consumers have had time for as many heartbeats
	for beats := 0; reads && beats < 5; {
		msg, err := sub.NextMsg(natstest.Soon)
		must(h.t, err)
		if msg.Header.Get("Status") == "100" {
			beats++
		}
	}
	root, err := jetstream.New(h.as(h.t, "root"))
	must(h.t, err)
	s, err := root.Stream(h.t.Context(), "KV_registry_acme")
	must(h.t, err)
	list := s.ListConsumers(h.t.Context())
	for c := range list.Info() {
		if c.Name != own.Name && (c.PushBound || c.Delivered.Consumer > 0) {
			h.t.Errorf("%s delivered %d to %s", c.Name, c.Delivered.Consumer,
				c.Config.DeliverSubject)
		}
	}
	must(h.t, list.Err())
}

// pulls creates pull consumers of acme's stream, and makes them send its messages to a subject. The
// messages, with headers, answer a request for the next ones or an acknowledgement. An empty answer
// is a request to delete or purge a stream.
func (h *hostile) pulls(target string) {
	h.t.Helper()
	const nextOne = `+NXT {"batch":1,"no_wait":true}`
	for _, name := range []string{"reaper", "reaper-x", "view-x", "mine"} {
		config := jetstream.ConsumerConfig{Name: name, AckPolicy: jetstream.AckExplicitPolicy}
		_ = h.creates(config)
		config.Durable = name
		_ = h.creates(config)
		next := "$JS.API.CONSUMER.MSG.NEXT.KV_registry_acme." + name
		h.send(next, target, `{"batch":1,"no_wait":true}`)
		if got := h.ask(next, `{"batch":1,"no_wait":true}`); got != nil && got.Reply != "" {
			h.send(got.Reply, target, "+NXT")
			h.ask(got.Reply, nextOne)
		}
		h.send(next, target, `{"batch":10,"no_wait":true}`)
		h.send(next, target, `{"batch":10,"expires":1000000000,"idle_heartbeat":100000000}`)
		h.ask(next, `{"batch":1,"no_wait":true}`)
		for seq := range 10 { // of delivered messages
			for _, answer := range []string{"+NXT", "+ACK"} {
				for _, stream := range []string{"KV_registry_acme", "KV_registry_other"} {
					h.send(fmt.Sprintf("$JS.ACK.%s.%s.1.%d.%d.1.0", stream, name, seq, seq), target,
						answer)
				}
				h.send(fmt.Sprintf("$JS.FC.KV_registry_acme.%s.%d", name, seq), target, answer)
			}
		}
		h.ask("$JS.ACK.KV_registry_acme."+name+".1.1.1.1.0", nextOne)
	}
}

// end deletes acme's stream, as its admin may, and asks that the answer delete the other one.
func (h *hostile) end() {
	h.t.Helper()
	for _, target := range []string{otherPurge, otherDelete} {
		h.send("$JS.API.STREAM.DELETE.KV_registry_acme", target, "")
	}
}

// redirects creates a consumer that replays acme's bucket. Between two messages it changes the
// deliver subject to a key of the other bucket. The server waits between the messages as long as
// there was between the writes.
func (h *hostile) redirects(done func() bool) {
	h.t.Helper()
	const pace = time.Second
	writer := h.as(h.t, string(operator.RoleService))
	write := func(key, rollup string) {
		h.t.Helper()
		msg := nats.NewMsg("$KV.registry_acme.svc.web." + key)
		msg.Header = nats.Header{"Nats-Rollup": {rollup}}
		_, err := writer.RequestMsgWithContext(h.t.Context(), msg)
		must(h.t, err)
	}
	config := jetstream.ConsumerConfig{
		Name: "view-x", ReplayPolicy: jetstream.ReplayOriginalPolicy,
		IdleHeartbeat: 100 * time.Millisecond,
	}
	create := func(deliver string) {
		h.t.Helper()
		config.DeliverSubject = deliver
		body, err := json.Marshal(map[string]any{"stream_name": "KV_registry_acme",
			"config": config})
		must(h.t, err)
		answer := h.ask("$JS.API.CONSUMER.CREATE.KV_registry_acme.view-x", string(body))
		if answer == nil || strings.Contains(string(answer.Data), `"error"`) {
			h.t.Fatalf("no consumer that delivers to %s: %v", deliver, answer)
		}
	}
	redirect := func() {
		h.t.Helper()
		h.ask("$JS.API.CONSUMER.DELETE.KV_registry_acme.view-x", "")
		write("first", "all")
		time.Sleep(pace) // the server will wait as long
		write("second", "sub")
		inbox := h.nc.NewInbox()
		sub, err := h.nc.SubscribeSync(inbox)
		must(h.t, err)
		create(inbox)
		_, err = sub.NextMsg(natstest.Soon)
		must(h.t, err)
		must(h.t, sub.Unsubscribe())
		create(otherKey)
		write("third", "all")
	}
	var began time.Time
	natstest.Eventually(h.t, 30*time.Second, func() error {
		if done() {
			return nil
		}
		if time.Since(began) > 3*pace { // the server may have noticed the change in time; try again
			redirect()
			began = time.Now()
		}
		return errors.New("the other tenant has what it had")
	})
}

func newHostile(t *testing.T, g *guarded, role operator.Role) *hostile {
	t.Helper()
	refused := &refusals{}
	return &hostile{g, t, role, g.as(t, string(role), refused.handler()), refused}
}

// answered reports whether a role may make a request that a registry needs and that is answered.
func answered(role operator.Role, subject string) bool {
	for _, queue := range []string{
		"$JS.API.CONSUMER.MSG.NEXT.", "$JS.API.CONSUMER.INFO.", "$JS.ACK.", "$JS.FC.", "_INBOX_",
	} {
		if strings.HasPrefix(subject, queue) {
			return false
		}
	}
	return slices.Contains(mayRaw[subject], role)
}
