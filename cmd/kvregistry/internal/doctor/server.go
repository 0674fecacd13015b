package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/kvregistry/go/tenant"
)

// The bounds of the checks of a server and of the connection to it.
const (
	skewMost      = 2 * time.Second // of a clock, beside the round trip
	tripShare     = 10              // a round trip takes at most this part of a TTL
	expiryHint    = 7 * 24 * time.Hour
	expiryWarning = 24 * time.Hour
	certHint      = 14 * 24 * time.Hour
	certWarning   = 3 * 24 * time.Hour
)

func serverVersion(f *facts) ([]Finding, error) {
	err := tenant.CheckVersion(f.nc.ConnectedServerVersion())
	if err == nil {
		return nil, nil
	}
	return finding(Error, err.Error(), "older servers have no TTLs on keys, by which leases end",
		"update nats-server, all servers of a cluster"), nil
}

func serverVersions(f *facts) ([]Finding, error) {
	if f.system.err != nil {
		return nil, f.system.err
	}
	by := map[string][]string{}
	for _, one := range f.system.value.servers {
		by[one.Version] = append(by[one.Version], one.Name)
	}
	if len(by) < 2 {
		return nil, nil
	}
	var list []string
	for version, names := range by {
		list = append(list, version+" ("+some(names)+")")
	}
	return finding(Warning, "the servers have versions "+some(list),
		"a stream's replica on an older server may not do what the newer ones do",
		"update the older servers; then run: nats server list"), nil
}

func jetStream(f *facts) ([]Finding, error) {
	switch err := f.near.err; {
	case err == nil, errors.Is(err, tenant.ErrPermission):
		return nil, err
	case !errors.Is(err, tenant.ErrJetStreamDisabled):
		return finding(Error, "JetStream does not answer: "+err.Error(),
			"nothing can be registered, and no lease renewed; look-ups answer from memory",
			"see, with the system account, which servers are away: nats server report jetstream",
		), nil
	}
	return finding(Error, f.near.err.Error(), "a tenant is a JetStream bucket",
		"enable JetStream in the server's configuration, and for the account; "+
			"then run: nats account info"), nil
}

func roundTrip(f *facts) ([]Finding, error) {
	if f.trip.err != nil {
		return nil, f.trip.err
	}
	ttl, _ := f.ttl()
	if f.trip.value <= ttl/tripShare {
		return nil, nil
	}
	return finding(Warning, fmt.Sprintf("a round trip to the server takes %s, at the least of %d; "+
		"the shortest TTL is %s", f.trip.value.Round(time.Millisecond), pings, ttl),
		"a heartbeat is sent each third of a TTL, and one that is answered late counts as missed",
		"take a longer TTL in all processes, or a nearer server; "+
			"then run: nats server check connection"), nil
}

func clock(f *facts) ([]Finding, error) {
	switch in := f.near.value; {
	case f.near.err != nil:
		return nil, f.near.err
	case in.Stream == nil:
		return nil, errNoBucket
	case in.Stream.TimeStamp.IsZero():
		return nil, errors.New("the server does not say its time")
	case in.Offset.Abs()-in.RoundTrip/2 <= skewMost:
		return nil, nil
	default:
		return finding(Warning, fmt.Sprintf("this machine's clock and the server's differ by %s",
			in.Offset.Abs().Round(time.Millisecond)),
			"no decision of the registry compares clocks, but times in logs and on pages mislead, "+
				"and credentials and certificates end early or late",
			"set the clocks by NTP; on this machine: timedatectl set-ntp true"), nil
	}
}

func credentials(f *facts) ([]Finding, error) {
	in := f.user.value.Expires
	if f.user.err != nil || in == 0 || in > expiryHint {
		return nil, f.user.err
	}
	s := Hint
	if in < expiryWarning {
		s = Warning
	}
	return finding(s, fmt.Sprintf("the credentials of this user end in %s", in.Round(time.Second)),
		"the server then closes its connections; registrations end a TTL later",
		"make new credentials, and replace the file of --creds, which is read at each reconnect: "+
			"see docs/security.md"), nil
}

func certificate(f *facts) ([]Finding, error) {
	state, err := f.nc.TLSConnectionState()
	if err != nil { // it has no TLS
		return nil, nil
	}
	var found []Finding
	for _, cert := range state.PeerCertificates {
		in := time.Until(cert.NotAfter)
		if in > certHint {
			continue
		}
		s := Hint
		if in < certWarning {
			s = Warning
		}
		found = append(found, finding(s, fmt.Sprintf("the server's certificate %q ends at %s",
			cert.Subject.CommonName, cert.NotAfter.UTC().Format(time.DateTime)),
			"no client can connect again then",
			"renew the certificate, and reload the server: nats-server --signal reload")...)
	}
	return found, nil
}

func syncInterval(f *facts) ([]Finding, error) {
	switch {
	case f.system.err != nil:
		return nil, f.system.err
	case f.leader.err != nil:
		return nil, f.leader.err
	case f.leader.value.Stream.Config.Replicas > 1:
		return nil, nil
	}
	var late []string
	for _, one := range f.system.value.servers {
		if cfg := one.JetStream.Config; cfg != nil && !cfg.SyncAlways && leads(f, one) {
			late = append(late, fmt.Sprintf("%s (every %s)", one.Name, cfg.SyncInterval))
		}
	}
	if late == nil {
		return nil, nil
	}
	return finding(Hint, "the bucket has one replica, and these servers write to disk and sync "+
		"later: "+
		some(late),
		"a power cut can lose registrations that were acknowledged; their processes write them "+
			"again "+
			"only when they notice",
		"set jetstream { sync_interval: always }, or have three replicas: "+
			f.ours("tenant change", " --replicas 3")), nil
}

// leads reports whether the bucket may be on a server.
func leads(f *facts, one server.Varz) bool {
	c := f.leader.value.Stream.Cluster
	return c == nil || c.Leader == "" || c.Leader == one.Name
}

func haAssets(f *facts) ([]Finding, error) {
	if f.system.err != nil {
		return nil, f.system.err
	}
	var found []Finding
	for _, one := range f.system.value.servers {
		js := one.JetStream
		if js.Limits == nil || js.Stats == nil || js.Limits.MaxHAAssets <= 0 {
			continue
		}
		s, near := share(int64(js.Stats.HAAssets), int64(js.Limits.MaxHAAssets))
		if !near {
			continue
		}
		found = append(found, finding(s, fmt.Sprintf("server %s has %d of %d streams and "+
			"consumers "+
			"with replicas (max_ha_assets)", one.Name, js.Stats.HAAssets, js.Limits.MaxHAAssets),
			"beyond the limit no tenant can be made with three replicas",
			"raise max_ha_assets, or add servers; then run: nats server report jetstream")...)
	}
	return found, nil
}

func slowConnections(f *facts) ([]Finding, error) {
	if f.system.err != nil {
		return nil, f.system.err
	}
	var slow []string
	for _, one := range f.system.value.closed {
		if strings.HasPrefix(one.reason, "Slow Consumer") {
			slow = append(slow, fmt.Sprintf("%q at %s: %s", one.client, one.server, one.reason))
		}
	}
	if slow == nil {
		return nil, nil
	}
	return finding(Warning, fmt.Sprintf("in the last %s the server closed connections of clients "+
			"that "+
			"read too slowly: %s", recent, some(slow)),
			"such a process misses heartbeats and changes while it connects again",
			"give the process more CPU, or a connection of its own; see: nats server report "+
				"connections"),
		nil
}

// flaps is how many connections must have ended of late, not by their clients' will.
const flaps = 5

func closedConnections(f *facts) ([]Finding, error) {
	if f.system.err != nil {
		return nil, f.system.err
	}
	reasons, n := map[string]int{}, 0
	for _, one := range f.system.value.closed {
		if one.reason != server.ClientClosed.String() {
			reasons[one.reason]++
			n++
		}
	}
	if n < flaps {
		return nil, nil
	}
	var list []string
	for reason, times := range reasons {
		list = append(list, fmt.Sprintf("%s (%d)", reason, times))
	}
	slices.Sort(list)
	return finding(Warning, fmt.Sprintf("in the last %s %d connections of the account ended "+
		"otherwise "+
		"than by their client: %s", recent, n, some(list)),
		"each end costs a reconnect and a new view, and an outage longer than a TTL the "+
			"registrations",
		"find out why by: nats server report connections --state closed"), nil
}
