package doctor

import (
	"fmt"
	"strings"

	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

func permissions(f *facts) ([]Finding, error) {
	if f.user.err != nil {
		return nil, f.user.err
	}
	u := f.user.value
	roles := operator.Roles()
	if f.cfg.Role != "" {
		roles = []operator.Role{f.cfg.Role}
	}
	var nearest operator.Role
	var fewest []string
	for _, role := range roles {
		missing, err := lacks(u, f.cfg.Tenant, role, f.near.value.Hub)
		if err != nil {
			return nil, err
		}
		if len(missing) == 0 {
			return nil, nil
		}
		if nearest == "" || len(missing) < len(fewest) {
			nearest, fewest = role, missing
		}
	}
	return finding(Error, fmt.Sprintf("for role %s user %q may not publish to %s", nearest, u.Name,
		some(fewest)),
		"the server refuses what the role needs, and the process goes without it or tries again",
		"give the user the list of: kvregistry tenant permissions "+f.cfg.Tenant+" --role "+
			string(nearest)), nil
}

// lacks lists the subjects that a role needs and a user may not publish to. hub is the domain of
// the bucket that a mirror is of.
func lacks(u operator.Identity, name string, role operator.Role, hub string) ([]string, error) {
	var services []string
	if role == operator.RoleRegistrar {
		if services = registers(u, name); services == nil {
			services = []string{"SERVICE"}
		}
	}
	a, err := operator.Permissions(name, role, services...)
	if err == nil && hub != "" {
		a, err = a.AtLeaf(hub)
	}
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, subject := range a.Publish {
		if !u.Publish.Include(subject) {
			missing = append(missing, subject)
		}
	}
	return missing, nil
}

// registers are the services that a user may register by name. If it may register any, "any" stands
// for them all.
func registers(u operator.Identity, name string) (list []string) {
	if len(u.Publish.Allow) == 0 {
		return []string{"any"}
	}
	for _, subject := range u.Publish.Allow {
		key, ours := strings.CutPrefix(subject, "$KV.registry_"+name+".")
		one, all := strings.CutSuffix(key, ".*")
		if service, _, ok := tenant.ParseServiceKey(one + ".any"); ours && all && ok {
			list = append(list, service)
		}
	}
	return list
}
