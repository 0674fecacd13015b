package natstest

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// longTier is the environment variable that asks for the long tests.
const longTier = "KVREGISTRY_LONG"

// IsLong reports whether the long tests were asked for.
func IsLong() bool { return os.Getenv(longTier) == "1" }

// Long skips a test that takes long, unless the long tests were asked for.
func Long(t testing.TB) {
	t.Helper()
	if !IsLong() {
		t.Skip("long: set " + longTier + "=1")
	}
}

// ServersInShort allows the servers of tests with -short. Without it -short skips such a test.
var ServersInShort bool

// skipIfShort skips a test that starts a server, if only short ones were asked for.
func skipIfShort(t testing.TB) {
	t.Helper()
	if _, test := t.(*testing.T); test && testing.Short() && !ServersInShort {
		t.Skip("the test needs a server: run without -short")
	}
}

// Parallel makes a package's tests run n at once, unless -parallel says otherwise, because they
// mostly wait. TestMain calls it. A machine with many cores runs more of them.
func Parallel(n int) {
	flag.Parse()
	f := flag.Lookup("test.parallel")
	if f.Value.String() == f.DefValue && runtime.GOMAXPROCS(0) < n {
		if err := f.Value.Set(strconv.Itoa(n)); err != nil {
			panic(err)
		}
	}
}
