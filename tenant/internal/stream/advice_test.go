package stream

import "testing"

// Roles isolate tenants from a certain patch of each minor version on. Seen to fail with all
// patches of 2.14.
func TestIsolates(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"2.11.0": false, "2.11.17": false, "2.12.15": false, "2.14.9": false, "2.15.0": false,
		"2.15.2":      false,
		"2.15.3-RC.1": false, "2.15": false, "2.14": false, "": false, "x": false, "1.99.99": false,
		"2.14.10": true, "2.14.11-RC.1": true, "2.15.3": true, "v2.15.3": true, "2.15.10": true,
		"2.16.0": true, "2.16.0-dev": true, "3.0.0": true,
	} {
		if got := isolates(version); got != want {
			t.Errorf("%q: %t", version, got)
		}
	}
}
