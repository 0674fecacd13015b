package transport

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/kvregistry/go/kvregistry"
)

// service is the state that a Transport keeps for a service and one way to call it.
type service struct {
	name   string
	lookup *kvregistry.Lookup
	budget *budget
	base   http.RoundTripper
	way    way
}

// way is how an instance is called: by http or https, as the request says, or by a connection on a
// network. An empty network is any network.
type way struct {
	scheme  string // http, https or dial
	network string // of a dial

	endpoint string // the name of the instance's endpoint; empty is its Address or URL
}

// services keeps a service for each host and way that was called.
type services struct {
	mu sync.RWMutex // guards of
	of map[callee]*service
}

type callee struct {
	host string
	way  way
}

// service returns the service that a host stands for, and prepares its look-up at the first call.
func (t *Transport) service(host string, way way) (*service, error) {
	way.endpoint = t.opt.endpoint
	to := callee{host, way}
	t.services.mu.RLock()
	s := t.services.of[to]
	t.services.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	t.services.mu.Lock()
	defer t.services.mu.Unlock()
	if s := t.services.of[to]; s != nil {
		return s, nil
	}
	s, err := t.newService(host, way)
	if err == nil {
		t.services.of[to] = s
	}
	return s, err
}

func (t *Transport) newService(host string, way way) (*service, error) {
	name, parts := host, t.opt.parts
	if h, ok := t.opt.hosts[host]; ok {
		name = h.service
		if len(h.parts) > 0 {
			parts = h.parts
		}
	} else if way.scheme != dial && strings.Contains(host, ":") {
		return nil, fmt.Errorf("transport: host %q has a port, but the instance has its own; "+
			"leave the port out, or set the option Host for this host", host)
	}
	lookup, err := t.reg.Lookup(name, append(slices.Clone(parts), kvregistry.Where(way.reaches))...)
	if err != nil {
		return nil, err
	}
	return &service{name: name, lookup: lookup, budget: newBudget(t.opt.share, t.opt.perSecond),
		base: t.baseFor(name, way), way: way}, nil
}

// baseFor returns what sends the requests of a service. With a server's name it is the service's
// own, because a connection that was made under one name must not be used under another.
func (t *Transport) baseFor(name string, way way) http.RoundTripper {
	if t.opt.serverName == nil || way.scheme == dial {
		return t.opt.base
	}
	serverName := t.opt.serverName(name)
	if serverName == "" {
		return t.opt.base
	}
	base := t.opt.base.(*http.Transport).Clone() // as newOptions has checked
	if base.TLSClientConfig == nil {
		base.TLSClientConfig = new(tls.Config)
	}
	base.TLSClientConfig.ServerName = serverName
	return base
}
