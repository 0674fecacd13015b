package doctor

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"github.com/kvregistry/go/kvregistry"
)

// place is where an instance is reached.
type place struct{ network, address string }

// placeOf is an instance's address, or that of its URL. ok is false if that is no address of TCP.
func placeOf(s kvregistry.Service) (p place, ok bool) {
	if s.Address != "" {
		p = place{cmp.Or(s.Network, "tcp"), s.Address}
		return p, strings.HasPrefix(p.network, "tcp")
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Hostname() == "" {
		return place{}, false
	}
	port := u.Port()
	switch {
	case port == "" && (u.Scheme == "https" || u.Scheme == "wss"):
		port = "443"
	case port == "":
		port = "80"
	}
	return place{"tcp", net.JoinHostPort(u.Hostname(), port)}, true
}

// local says why no other host reaches an address; empty if others may.
func (p place) local() string {
	host, _, err := net.SplitHostPort(p.address)
	if err != nil {
		return ""
	}
	if strings.EqualFold(host, "localhost") {
		return "it is the host itself"
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "", err == nil && ip.IsUnspecified():
		return "it is one to listen at, and none to call"
	case err == nil && ip.Unmap().IsLoopback():
		return "it is the host itself"
	case err == nil && ip.IsLinkLocalUnicast():
		return "it is of one link only"
	}
	return ""
}

func addresses(f *facts) ([]Finding, error) {
	if f.scan.err != nil {
		return nil, f.scan.err
	}
	if len(f.scan.value.hosts()) < 2 { // nobody else is there to reach it
		return nil, nil
	}
	var far []string
	for _, one := range f.scan.value.living() {
		if p, ok := placeOf(one.Service); ok && p.local() != "" {
			far = append(far, fmt.Sprintf("%s at %q from host %q: %s", one.key, p.address, one.Host,
				p.local()))
		}
	}
	if far == nil {
		return nil, nil
	}
	return finding(Warning, fmt.Sprintf("the tenant has processes on %d hosts, and other hosts "+
		"can't "+
		"reach %s", len(f.scan.value.hosts()), some(far)),
		"calls from another host fail, or reach another program there",
		"register an address of the network: kvregistry.OutboundIP gives it, and run "+
			"--address"), nil
}

func sharedAddresses(f *facts) ([]Finding, error) {
	if f.scan.err != nil {
		return nil, f.scan.err
	}
	by := map[place][]registration{}
	for _, one := range f.scan.value.living() {
		if p, ok := placeOf(one.Service); ok && (p.local() == "" || len(f.scan.value.hosts()) < 2) {
			by[p] = append(by[p], one)
		}
	}
	var same, different []string
	for p, list := range by {
		names := map[string]int{}
		var keys []string
		for _, one := range list {
			names[one.Name]++
			keys = append(keys, one.key)
		}
		text := fmt.Sprintf("%q by %s", p.address, some(keys))
		if len(names) < len(list) {
			same = append(same, text)
		} else if len(names) > 1 {
			different = append(different, text)
		}
	}
	var found []Finding
	if same != nil {
		found = finding(Warning, "an address is registered twice in one service: "+some(same),
			"it gets twice its share of the calls, and one of the two may be of a process that "+
				"is gone",
			"end the process that should not be there: kvregistry ls --tenant "+f.cfg.Tenant+
				" -o wide")
	}
	if different != nil {
		found = append(found, finding(Hint, "an address is registered in several services: "+
			some(different), "it is right for a program that serves them all at one port",
			"kvregistry ls --tenant "+f.cfg.Tenant+" -o wide")...)
	}
	return found, nil
}

// dials is how many addresses are tried at once.
const dials = 32

// dialAll tries the addresses of instances, and returns those that do not answer.
func dialAll(ctx context.Context, list []registration) (silent []string) {
	var mu sync.Mutex // guards silent
	var wg sync.WaitGroup
	turn := make(chan struct{}, dials)
	for _, one := range list {
		p, ok := placeOf(one.Service)
		if !ok {
			continue
		}
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			d := net.Dialer{Timeout: dialTime}
			conn, err := d.DialContext(ctx, p.network, p.address)
			if err == nil {
				_ = conn.Close()
				return
			}
			mu.Lock()
			defer mu.Unlock()
			silent = append(silent, fmt.Sprintf("%s at %q (%s)", one.key, p.address, cause(err)))
		})
	}
	wg.Wait()
	return silent
}

// cause is why an address was not reached, without the address.
func cause(err error) error {
	if op, ok := err.(*net.OpError); ok {
		return op.Err
	}
	return err
}

func silentAddresses(f *facts) ([]Finding, error) {
	if f.silent.err != nil || len(f.silent.value) == 0 {
		return nil, f.silent.err
	}
	return finding(Warning, fmt.Sprintf("from this machine %s not answer: %s",
		instancesDo(len(f.silent.value)), some(f.silent.value)),
		"a lease says that the process lives, and not that it listens",
		"give the process a check, which sets its status: package check, or run --check"), nil
}

func instancesDo(n int) string {
	if n == 1 {
		return "1 instance does"
	}
	return fmt.Sprintf("%d instances do", n)
}
