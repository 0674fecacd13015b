package stream

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Advice lists what an administrator should change about a server and a bucket that work: a
// sentence each, with the remedy.
func Advice(version, bucket string, have jetstream.StreamConfig) (list []string) {
	if !isolates(version) {
		list = append(list, fmt.Sprintf("nats-server %s does not keep a user with a role out of "+
			"other tenants of its account: use %s, or give each tenant an account", version,
			RolesNeed))
	}
	if have.Duplicates > DuplicateWindow {
		list = append(list, fmt.Sprintf("bucket %s has a duplicate window of %s, in which a user "+
			"can fill the server's memory with message ids: an admin shortens it by "+
			"\"kvregistry tenant create %s\"",
			bucket, have.Duplicates, strings.TrimPrefix(bucket, "registry_")))
	}
	return list
}

// RolesNeed is the version of nats-server from which a user with a role can't make requests to
// JetStream by the reply subject of another request, or by the deliver subject of a consumer.
const RolesNeed = "2.15.3 or newer, or 2.14.10 or newer of 2.14"

// isolates reports whether a server has such a version.
func isolates(version string) bool {
	major, minor, patch, ok := ParseVersion(version)
	switch {
	case !ok:
		return false
	case major != 2:
		return major > 2
	case minor == 14:
		return patch >= 10
	case minor == 15:
		return patch >= 3
	}
	return minor > 15
}

// ParseVersion reads the numbers of a server's version. It takes 1 from the patch of a pre-release.
func ParseVersion(v string) (major, minor, patch int, ok bool) {
	v, pre, _ := strings.Cut(strings.TrimPrefix(v, "v"), "-")
	part := strings.SplitN(v, ".", 3)
	if len(part) < 2 {
		return 0, 0, 0, false
	}
	major, err1 := strconv.Atoi(part[0])
	minor, err2 := strconv.Atoi(part[1])
	if len(part) == 3 {
		patch, _ = strconv.Atoi(part[2])
	}
	if pre != "" {
		patch--
	}
	return major, minor, patch, cmp.Or(err1, err2) == nil
}
