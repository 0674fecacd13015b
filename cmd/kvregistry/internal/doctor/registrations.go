package doctor

import (
	"fmt"
	"strings"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

func unreadable(f *facts) ([]Finding, error) {
	if f.scan.err != nil {
		return nil, f.scan.err
	}
	var broken, newer, long []string
	removal, odd := "kvregistry deregister SERVICE/ID --tenant "+f.cfg.Tenant, ""
	for _, one := range f.scan.value.registrations {
		switch {
		case one.newer:
			newer = append(newer, one.key)
		case one.err != nil:
			broken = append(broken, fmt.Sprintf("%s (%s)", one.key, one.err))
			if one.alive && !strings.HasSuffix(removal, force) {
				removal += force
			}
			if _, _, ok := tenant.ParseServiceKey(one.key); !ok {
				odd = "; if the key names no instance: nats kv del " + f.bucket() + " KEY --force"
			}
		case one.size > kvregistry.DefaultMaxRecord:
			long = append(long, fmt.Sprintf("%s (%d bytes)", one.key, one.size))
		}
	}
	var found []Finding
	if broken != nil {
		found = finding(Error, fmt.Sprintf("no registry can read %s: %s",
			number(len(broken), "record"), some(broken)),
			"the instances are not found; somebody wrote them who has no part in the tenant, or "+
				"another client",
			"see who may write it: nats kv history "+f.bucket()+" KEY; remove it: "+
				removal+odd)
	}
	if newer != nil {
		found = append(found, finding(Warning, fmt.Sprintf("%s a newer format: %s",
			registrationsHave(len(newer)), some(newer)),
			"processes of this version do not find these instances", "update the other "+
				"processes")...)
	}
	if long != nil {
		found = append(found, finding(Warning, fmt.Sprintf("%s longer than %d bytes: %s",
			registrationsAre(len(long)), kvregistry.DefaultMaxRecord, some(long)),
			"processes without the option MaxRecord do not find these instances",
			"register less metadata, or set MaxRecord in all processes")...)
	}
	return found, nil
}

// force is the option that removes the registration of a living process, too.
const force = " --force"

func registrationsAre(n int) string {
	if n == 1 {
		return "1 registration is"
	}
	return fmt.Sprintf("%d registrations are", n)
}

// bucket is the name of the tenant's bucket, for commands.
func (f *facts) bucket() string {
	name, _ := tenant.BucketName(f.cfg.Tenant) // was checked
	return name
}

func contested(f *facts) ([]Finding, error) {
	if f.scan.err != nil {
		return nil, f.scan.err
	}
	var keys []string
	for key, turns := range f.scan.value.contested {
		if turns > 1 { // one is a process that takes the place of another
			keys = append(keys, fmt.Sprintf("%s (%s)", key, number(turns, "change")))
		}
	}
	if keys == nil {
		return nil, nil
	}
	return finding(Error, fmt.Sprintf("within %s the owner changed of %s", f.cfg.Watch, some(keys)),
		"two processes register one id: each fences the other, and look-ups give now this address "+
			"and now that one",
		"give each process an id of its own, or none, so that one is made: kvregistry ls --tenant "+
			f.cfg.Tenant+" -o wide"), nil
}
