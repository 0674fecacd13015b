package figures

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvregistry/go/kvregistry"
)

// The causes that have a value from the start are those that Health documents. Seen to fail without
// one of them.
func TestCauses(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../health.go")
	if err != nil {
		t.Fatal(err)
	}
	_, doc, _ := strings.Cut(string(text), "// Sessions are the Resyncs by cause: ")
	doc, _, _ = strings.Cut(doc, "Sessions map[string]uint64")
	var documented []string
	for _, m := range regexp.MustCompile(`"([a-z ]+)"`).FindAllStringSubmatch(doc, -1) {
		documented = append(documented, m[1])
	}
	if diff := cmp.Diff(documented, causes); diff != "" {
		t.Errorf("documented and shown:\n%s", diff)
	}
}

// Each name has the form that both twins need. Seen to fail with an upper-case letter, a unit of
// milliseconds and a name that is there twice.
func TestNames(t *testing.T) {
	t.Parallel()
	var seen []string
	name := regexp.MustCompile(`^kvregistry(\.[a-z]+(_[a-z]+)*)+$`)
	unit := regexp.MustCompile(`^(s|By|\{[a-z]+\}|)$`)
	for _, f := range All() {
		if !name.MatchString(f.Name) || !unit.MatchString(f.Unit) || f.read == nil ||
			!strings.HasSuffix(f.Help, ".") || slices.Contains(seen, f.Prometheus()) {
			t.Errorf("%q %q %q: its form is wrong, or it is there twice", f.Name, f.Unit, f.Help)
		}
		seen = append(seen, f.Prometheus())
	}
}

// Each figure tells of its own member of Health. Seen to fail with two counters that are exchanged.
func TestFiguresOfHealth(t *testing.T) {
	t.Parallel()
	state := &State{Registered: 40, Health: kvregistry.Health{
		Connected: true, Refused: errors.New("refused"), Age: 2 * time.Second,
		Observed: make([]string, 3), Unread: make([]string, 4), Stale: make([]string, 5),
		Sessions: map[string]uint64{"silent": 6, "other": 7}, Merged: 8,
		Lease: kvregistry.LeaseGone, Renewed: time.UnixMilli(9500), RoundTrip: 10 * time.Second,
		Missed: 11, Losses: 12, Fenced: 13, Unwritten: 14, Reaps: true, Ended: 15, Unreaped: 16,
		Reaped: 17, Skipped: 18, Memory: 19, Full: true,
		Holds: []kvregistry.HoldHealth{{Name: "a"}, {Name: "a", Token: 20}, {Name: "b"}},
	}}
	want := map[string]float64{
		"kvregistry_up": 1, "kvregistry_ok": 0, "kvregistry_ready": 0, "kvregistry_refused": 1,
		"kvregistry_view_age_seconds": 2, "kvregistry_view_current": 1,
		"kvregistry_view_names": 3, "kvregistry_view_unread_names": 4,
		"kvregistry_view_stale_names": 5, "kvregistry_view_resyncs_total silent": 6,
		"kvregistry_view_resyncs_total other": 7, "kvregistry_view_memory_bytes": 19,
		"kvregistry_view_full": 1, "kvregistry_events_merged_total": 8,
		"kvregistry_records_skipped_total": 18, "kvregistry_lease_held": 0,
		"kvregistry_lease_last_renewal_timestamp_seconds": 9.5,
		"kvregistry_lease_round_trip_seconds":             10,
		"kvregistry_lease_heartbeats_failed_total":        11,
		"kvregistry_lease_losses_total":                   12, "kvregistry_registrations": 40,
		"kvregistry_registrations_unwritten":    14,
		"kvregistry_registrations_fenced_total": 13, "kvregistry_hold_held a": 1,
		"kvregistry_hold_held b": 0, "kvregistry_reaper_slot_held": 1,
		"kvregistry_reaper_pending_leases": 15, "kvregistry_reaper_unreaped_leases": 16,
		"kvregistry_reaped_total": 17,
	}
	got := map[string]float64{}
	for _, f := range All() {
		f.Read(state, func(value float64, labels ...string) {
			name := strings.Join(append([]string{f.Prometheus()}, labels...), " ")
			if _, known := got[name]; known {
				t.Errorf("%s has two values", name)
			}
			if f.Name != "kvregistry.view.resyncs" || value != 0 {
				got[name] = value
			}
		})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The page of the metrics has a row for each figure, and no other. Seen to fail with a figure whose
// help was changed.
func TestPageListsTheFigures(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../../docs/monitoring/README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := []string{"| Prometheus | OpenTelemetry | what it tells |", "| --- | --- | --- |"}
	for _, f := range All() {
		name := f.Prometheus()
		if f.Labels != nil {
			name += "{" + strings.Join(f.Labels, ",") + "}"
		}
		rows = append(rows, "| `"+name+"` | `"+f.Name+"` | "+f.Help+" |")
	}
	if table := "\n" + strings.Join(rows, "\n") + "\n\n"; !strings.Contains(string(page), table) {
		t.Errorf("the table of docs/monitoring/README.md has to be:\n%s", table)
	}
}
