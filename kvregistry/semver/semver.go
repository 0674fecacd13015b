// Package semver filters look-ups by semantic version. It is a package of its own, so that only
// programs that use it import a parser of versions.
package semver

import (
	"fmt"

	"github.com/Masterminds/semver/v3"

	"github.com/kvregistry/go/kvregistry"
)

// Constraint keeps the instances whose Version meets a constraint, such as ">= 1.2, < 2", "^1.4",
// "~2.1.3", "1.x", or "1.2 - 1.4 || ^3". The syntax is that of github.com/Masterminds/semver. A
// version may begin with a v and leave out its last numbers: v1.2 is 1.2.0. A pre-release, such as
// 2.0.0-rc.1, meets only a constraint that names a pre-release, such as ">= 2.0.0-0". An instance
// whose Version is not a semantic version meets no constraint.
//
// The error wraps [kvregistry.ErrInvalidOption].
func Constraint(constraint string) (kvregistry.Filter, error) {
	c, err := semver.NewConstraint(constraint)
	if err != nil {
		return kvregistry.Filter{}, fmt.Errorf("semver: %w: constraint %q: %w; write "+
			"it as \">= 1.2, < 2\"", kvregistry.ErrInvalidOption, constraint, err)
	}
	return kvregistry.Where(func(s kvregistry.Service) bool {
		v, err := semver.NewVersion(s.Version)
		return err == nil && c.Check(v)
	}), nil
}
