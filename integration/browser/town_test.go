package browser

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

// town registers what a small company may run: a dozen services in three zones.
func town(t *testing.T, env *kvregistrytest.Env) *kvregistry.Registry {
	t.Helper()
	zones := []string{"eu-west-1a", "eu-west-1b", "eu-west-1c"}
	var list []kvregistry.Service
	add := func(name, version string, n, port int, tags ...string) {
		for i := range n {
			status := kvregistry.Passing
			switch {
			case name == "checkout" && i == 2, name == "search" && i == 7:
				status = kvregistry.Critical
			case name == "payments" && i == 1, name == "search" && i == 4:
				status = kvregistry.Warning
			case name == "web" && i < 2:
				status = kvregistry.Draining
			}
			v := version
			if name == "web" && i > 5 {
				v = "5.3.0-rc1"
			}
			list = append(list, kvregistry.Service{
				Name: name, ID: fmt.Sprintf("%s-%02d", name, i+1), Version: v, Status: status,
				Address: fmt.Sprintf("10.20.%d.%d:%d", i%3+1, 10+i+len(name), port),
				Host:    fmt.Sprintf("node-%02d", i%12+1), Zone: zones[i%3], Tags: tags,
				Metadata: map[string]string{"team": name + "-team", "commit": fmt.Sprintf("%07x",
					0x9f31c7+i*4099+port)},
				Endpoints: map[string]string{"metrics": fmt.Sprintf("10.20.%d.%d:9100", i%3+1,
					10+i+len(name))},
			})
		}
	}
	add("web", "5.2.4", 12, 8080, "public", "http")
	add("checkout", "2.14.0", 6, 8081, "http", "pci")
	add("payments", "1.9.3", 4, 8443, "grpc", "pci")
	add("search", "7.0.1", 9, 9200, "http")
	add("catalog", "3.6.2", 6, 8082, "http")
	add("inventory", "3.1.0", 3, 8083, "grpc")
	add("images", "1.4.4", 5, 8084, "http", "cdn")
	add("sessions", "0.12.1", 3, 6379, "tcp")
	add("mail", "2.2.0", 2, 2525, "smtp")
	add("recommendations", "0.8.0-beta", 4, 8090, "grpc", "canary")
	add("audit", "1.0.7", 2, 8086, "grpc")
	add("billing-export", "4.0.0", 1, 8087, "batch")
	return register(t, env, list...)
}

// junk puts a value into the bucket that is no registration.
func junk(t *testing.T, env *kvregistrytest.Env) {
	t.Helper()
	put(t, env, "svc.web.junk", "<b>no registration</b>")
}

// put writes a key by hand.
func put(t *testing.T, env *kvregistrytest.Env, key, value string) {
	t.Helper()
	js, err := jetstream.New(env.Conn())
	must(t, err)
	bucket, err := js.KeyValue(t.Context(), "registry_default")
	must(t, err)
	_, err = bucket.PutString(t.Context(), key, value)
	must(t, err)
}

// busy makes some changes, so that there is something to see. It waits for each, so that no two
// are merged.
func busy(p *tab, env *kvregistrytest.Env, reg *kvregistry.Registry) {
	t := p.t
	t.Helper()
	leader, err := reg.Exclusive(t.Context(), "billing-export/leader")
	must(t, err)
	t.Cleanup(func() { _ = leader.Close() })
	other := register(t, env, kvregistry.Service{Name: "web", ID: "web-13", Version: "5.3.0-rc1",
		Address: "10.20.1.31:8080", Host: "node-07", Zone: "eu-west-1a", Tags: []string{"public"}})
	go func() { // waits in line until the registry closes
		if h, err := other.Exclusive(t.Context(), "billing-export/leader"); err == nil {
			_ = h.Close()
		}
	}()
	_, err = other.Exclusive(t.Context(), "search/reindex")
	must(t, err)
	register(t, env, kvregistry.Service{Name: "mail", ID: "mail-03", Address: "10.20.3.9:2525",
		Version: "2.2.0", Host: "node-03", Zone: "eu-west-1c", Tags: []string{"smtp"}})
	p.changed(kvregistry.Registered, "mail", "passing")
	env.Kill("mail-03")
	p.changed(kvregistry.Expired, "mail", "passing")
	for _, s := range []kvregistry.Status{kvregistry.Warning, kvregistry.Passing} {
		must(t, reg.SetStatus("sessions", s))
		p.changed(kvregistry.Updated, "sessions", string(s))
	}
	must(t, reg.Update(kvregistry.Service{Name: "audit", ID: "audit-01", Version: "1.0.8",
		Address: "10.20.1.15:8086", Host: "node-01", Zone: "eu-west-1a", Tags: []string{"grpc"}}))
}
