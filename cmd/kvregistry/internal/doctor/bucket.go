package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant/operator"
)

// The bounds of the checks of a bucket's replicas.
const (
	lagMost    = 1000 // writes
	silentMost = 10 * time.Second
)

func bucketThere(f *facts) ([]Finding, error) {
	if f.leader.err != errNoBucket {
		return nil, f.leader.err
	}
	return finding(Error, fmt.Sprintf("there is no bucket registry_%s", f.cfg.Tenant),
		"nothing can be registered or looked up", f.ours("tenant create", "")), nil
}

func settings(f *facts) ([]Finding, error) {
	if f.leader.err != nil {
		return nil, f.leader.err
	}
	differ := f.leader.value.Differences
	if len(differ) == 0 {
		return nil, nil
	}
	var lines []string
	flags := ""
	lasting := false
	for _, one := range differ {
		lines = append(lines, fmt.Sprintf("- %s: %s\n+ %s: %s", one.Name, one.Have, one.Name,
			one.Want))
		if one.Flag == "" {
			lasting = true
		} else {
			flags += " " + one.Flag
		}
	}
	mend := "nats stream edit " + f.stream() + flags + " --force"
	if lasting {
		mend = "it can't be changed: " + f.ours("tenant delete", " --yes") +
			"; processes that live make it again, with what they had registered"
	}
	return finding(Error, "the bucket has other settings than it must have (-), and should have "+
		"(+):\n"+
		strings.Join(lines, "\n"), "every registry refuses the bucket", mend), nil
}

func replication(f *facts) ([]Finding, error) {
	if f.leader.err != nil {
		return nil, f.leader.err
	}
	cfg, cluster := f.leader.value.Stream.Config, f.leader.value.Stream.Cluster
	switch {
	case cfg.Replicas%2 == 0:
		return finding(Warning, fmt.Sprintf("the bucket has %d replicas", cfg.Replicas),
			"an even number survives the loss of no more servers than one replica less does",
			f.ours("tenant change", " --replicas 3")), nil
	case cfg.Replicas == 1 && cluster != nil && cluster.Name != "":
		return finding(Warning, fmt.Sprintf("the bucket has one replica, in cluster %s",
			cluster.Name),
			"while its server is away, all registrations are pending and leases may end",
			f.ours("tenant change", " --replicas 3")), nil
	}
	return nil, nil
}

func replicas(f *facts) ([]Finding, error) {
	if f.leader.err != nil {
		return nil, f.leader.err
	}
	c := f.leader.value.Stream.Cluster
	if c == nil {
		return nil, nil
	}
	name := f.stream()
	if c.Leader == "" {
		return finding(Error, "the bucket has no leader", "nothing can be written",
			"see which servers are up: nats stream info "+name), nil
	}
	var found []Finding
	for _, r := range c.Replicas {
		seen := ""
		switch {
		case r.Offline:
			seen = "is offline"
		case r.Lag > lagMost:
			seen = fmt.Sprintf("is %d writes behind", r.Lag)
		case r.Active > silentMost:
			seen = fmt.Sprintf("was not heard of for %s", r.Active.Round(time.Second))
		case !r.Current && r.Lag > 0:
			seen = fmt.Sprintf("is not current, and %d writes behind", r.Lag)
		}
		if seen == "" {
			continue
		}
		found = append(found, finding(Error, "the replica on server "+r.Name+" "+seen,
			"if another server is lost, nothing can be written",
			"start that server, or replace its replica: nats stream cluster peer-remove "+name+" "+
				r.Name)...)
	}
	return found, nil
}

func room(f *facts) ([]Finding, error) {
	if f.leader.err != nil {
		return nil, f.leader.err
	}
	in := f.leader.value
	state, cfg := in.Stream.State, in.Stream.Config
	keys := ""
	if f.scan.err == nil {
		keys = fmt.Sprintf("; %d keys have a value, and %d have ended in the last 10 to 20 minutes",
			f.scan.value.keys, f.scan.value.ended)
	}
	var found []Finding
	for _, one := range []struct {
		what, option string
		have, most   int64
	}{
		{"keys", "--max-keys", int64(state.Msgs), in.MaxKeys},
		{"bytes", "--max-bytes", int64(state.Bytes), cfg.MaxBytes},
	} {
		s, near := share(one.have, one.most)
		if !near {
			continue
		}
		found = append(found, finding(s, fmt.Sprintf("the bucket has %d of %d %s%s", one.have,
			one.most, one.what, keys),
			"a full bucket takes no registration; one with replicas refuses heartbeats, and all "+
				"leases end",
			f.ours("tenant change", fmt.Sprintf(" %s %d", one.option, 2*one.most)))...)
	}
	return found, nil
}

func consumers(f *facts) ([]Finding, error) {
	if f.leader.err != nil {
		return nil, f.leader.err
	}
	state, cfg := f.leader.value.Stream.State, f.leader.value.Stream.Config
	s, near := share(int64(state.Consumers), int64(cfg.MaxConsumers))
	if !near {
		return nil, nil
	}
	return finding(s, fmt.Sprintf("the bucket has %d of %d consumers", state.Consumers,
		cfg.MaxConsumers), "each process that observes or registers needs one",
		"nats stream edit "+f.stream()+" --max-consumers=1000000 --force"), nil
}

func mirror(f *facts) ([]Finding, error) {
	if f.near.err != nil {
		return nil, f.near.err
	}
	in := f.near.value
	if in.Stream == nil || in.Stream.Config.Mirror == nil {
		return nil, nil
	}
	again := f.ours("tenant mirror", " --hub-domain "+in.Hub)
	far := "look-ups read the hub, over the leaf node's connection"
	if len(in.Wrong) > 0 {
		return finding(Error, "the mirror can't be used: "+strings.Join(in.Wrong, "; "),
			"registries refuse it", "nats stream rm "+in.Stream.Config.Name+" --force, and then "+
				again), nil
	}
	var found []Finding
	switch m := in.Stream.Mirror; {
	case m == nil || m.Active < 0 || m.Active > silentMost:
		found = finding(Warning, "the mirror does not hear of the hub", far,
			"check the leaf node's connection: nats server report leafnodes")
	case m.Lag > lagMost:
		found = finding(Warning, fmt.Sprintf("the mirror is %d writes behind", m.Lag), far,
			"check the leaf node's connection: nats server report leafnodes")
	}
	if f.leader.err != nil {
		return append(found, finding(Warning, "the hub's bucket can't be asked: "+
			reason(f.leader.err), "nothing can be registered from here",
			"check the hub: nats server report leafnodes")...), nil
	}
	if hub := f.leader.value.Stream; !hub.Created.Equal(in.MirrorOf) {
		found = append(found, finding(Warning, fmt.Sprintf("the mirror is of a bucket of %s, and "+
			"the "+
			"hub's was made at %s", in.MirrorOf.UTC().Format(time.DateTime),
			hub.Created.UTC().Format(time.DateTime)), far, again)...)
	}
	return found, nil
}

func domains(f *facts) ([]Finding, error) {
	switch {
	case f.near.err != nil:
		return nil, f.near.err
	case f.user.err != nil:
		return nil, f.user.err
	case isMirror(f.near.value.Stream):
		return nil, nil
	}
	var found []Finding
	for domain, other := range f.others {
		switch has := other.value.Stream; {
		case other.err != nil:
			return nil, fmt.Errorf("domain %s: %s", domain, reason(other.err))
		case has == nil || isMirror(has):
		case f.near.value.Stream == nil:
			found = append(found, finding(Warning, "the bucket is in domain "+domain+
				", and this domain has no mirror of it",
				"processes here find nothing, and make a bucket of their own if they may",
				f.ours("tenant mirror", " --hub-domain "+domain))...)
		default:
			found = append(found, finding(Error, fmt.Sprintf("the tenant has a bucket in this "+
				"domain, "+
				"%q, and another in domain %q", f.near.value.Account.Domain, domain),
				"what is registered at one side is not found at the other",
				"at the leaf node: "+f.ours("tenant delete", " --yes")+", and then "+
					f.ours("tenant mirror", " --hub-domain "+domain))...)
		}
	}
	return found, nil
}

func isMirror(s *jetstream.StreamInfo) bool { return s != nil && s.Config.Mirror != nil }

func advice(f *facts) ([]Finding, error) {
	if f.leader.err != nil {
		return nil, f.leader.err
	}
	var found []Finding
	for _, text := range f.leader.value.Advice {
		s, mend := Hint, "update nats-server to "+operator.RolesNeed
		switch {
		case strings.Contains(text, "duplicate window"):
			s, mend = Warning, f.ours("tenant create", "")
		case len(f.user.value.Publish.Allow) > 0: // this user has a role
			s = Warning
		}
		found = append(found, finding(s, text, "the tenant works, and a hostile user may do more "+
			"than it should", mend)...)
	}
	return found, nil
}
