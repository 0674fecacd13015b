// Command table reads the raw output of the benchmarks, prints it as one table, and writes the
// table into a document between two lines that mark its place. integration/bench/run starts it.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"math"
	"os"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

const begin, end = "<!-- integration/bench/run -->\n", "<!-- end -->\n"

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: table RAW DOCUMENT")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(raw, document string) error {
	in, err := os.Open(raw)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	t, err := read(benchfmt.NewReader(in, raw))
	if err != nil {
		return err
	}
	text := t.String()
	fmt.Print("\n" + text)
	doc, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	before, rest, marked := bytes.Cut(doc, []byte(begin))
	_, after, ended := bytes.Cut(rest, []byte(end))
	if !marked || !ended {
		return fmt.Errorf("%s: no place for the table; put it between the lines %q and %q",
			document, begin, end)
	}
	return os.WriteFile(document, slices.Concat(before, []byte(begin), []byte(text),
		[]byte(end), after), 0o644)
}

// row is one line: what was measured, in one unit, by this, by its floor and by peers.
type row struct {
	what, unit string
	by         []string
	values     map[string][]float64 // of each round
}

type table struct {
	machine     string
	rows        []*row
	allocations map[string]float64 // per call of this
}

// read returns the results in the order in which they were first measured. The n-th result of a
// name is of the n-th round.
func read(results *benchfmt.Reader) (*table, error) {
	t := &table{allocations: map[string]float64{}}
	for results.Scan() {
		r, ok := results.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		what, by, err := parse(r.Name)
		if err != nil {
			return nil, err
		}
		t.machine = fmt.Sprintf("%s, %s cores; %s, nats.go %s, nats-server %s, etcd %s; rounds: %s",
			strings.TrimSpace(r.GetConfig("cpu")), r.GetConfig("cores"), r.GetConfig("go"),
			r.GetConfig("nats.go"), r.GetConfig("nats-server"), r.GetConfig("etcd"),
			r.GetConfig("rounds"))
		for _, v := range r.Values {
			switch {
			case v.Unit == "allocs/op" && by == "this":
				t.allocations[what] = v.Value
			case v.Unit != "allocs/op" && v.Unit != "B/op" &&
				v != (benchfmt.Value{Unit: "sec/op", OrigUnit: "ns/op"}):
				// The latter says that there is no mean.
				t.row(what, v.Unit).add(by, v.Value)
			}
		}
	}
	if len(t.rows) == 0 {
		return nil, errors.Join(errors.New("no result"), results.Err())
	}
	return t, results.Err()
}

// parse splits a name: what is measured, and by what.
func parse(name benchfmt.Name) (what, by string, err error) {
	base, parts := name.Parts()
	what = string(base)
	for _, part := range parts {
		if p, ok := bytes.CutPrefix(part, []byte("/by=")); ok {
			by = string(p)
		} else if p, ok := bytes.CutPrefix(part, []byte("/")); ok {
			what += ", " + string(p)
		}
	}
	if by == "" {
		return "", "", fmt.Errorf("%s: the name does not say by=WHAT", name)
	}
	return what, strings.ReplaceAll(by, "_", " "), nil
}

func (t *table) row(what, unit string) *row {
	i := slices.IndexFunc(t.rows, func(r *row) bool { return r.what == what && r.unit == unit })
	if i >= 0 {
		return t.rows[i]
	}
	r := &row{what: what, unit: unit, values: map[string][]float64{}}
	t.rows = append(t.rows, r)
	return r
}

func (r *row) add(by string, v float64) {
	if r.values[by] == nil {
		r.by = append(r.by, by)
	}
	r.values[by] = append(r.values[by], v)
}

func (t *table) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "Machine: %s.\n\n", t.machine)
	s.WriteString("| what | this | floor | peers | this/floor | this/peer | allocations |\n| --- " +
		"| --- | --- | --- | --- | --- | --- |\n")
	for _, r := range t.rows {
		var peers, ratios []string
		for _, by := range r.by {
			if by != "this" && by != "floor" {
				peers, ratios = append(peers, by+" "+r.value(by)),
					append(ratios, by+" "+r.ratio(by))
			}
		}
		what, allocations := r.what, ""
		if r.unit != "sec/op" {
			// The values have their own unit of time.
			what += ": " + strings.Replace(r.unit, "-sec", "", 1)
		} else if n, ok := t.allocations[r.what]; ok {
			allocations = fmt.Sprint(n)
		}
		fmt.Fprintf(&s, "| %s | %s | %s | %s | %s | %s | %s |\n", what, r.value("this"),
			r.value("floor"), strings.Join(peers, ", "),
			r.ratio("floor"), strings.Join(ratios, ", "), allocations)
	}
	return s.String()
}

// value returns the median of the rounds.
func (r *row) value(by string) string {
	values := r.values[by]
	if values == nil {
		return ""
	}
	v := quantile(slices.Clone(values), 0.5)
	if !strings.Contains(r.unit, "sec") {
		return fmt.Sprintf("%.4g", v)
	}
	for _, u := range []struct {
		name string
		size float64
	}{{"s", 1}, {"ms", 1e-3}, {"µs", 1e-6}} {
		if v >= u.size {
			return fmt.Sprintf("%.3g %s", v/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.3g ns", v/1e-9)
}

// ratio returns the median of the ratios of this and another in the same round, with the middle
// half if there are enough rounds.
func (r *row) ratio(by string) string {
	this, other := r.values["this"], r.values[by]
	var ratios []float64
	for i := range min(len(this), len(other)) {
		if other[i] != 0 {
			ratios = append(ratios, this[i]/other[i])
		}
	}
	switch {
	case len(ratios) == 0:
		return ""
	case len(ratios) < 4:
		return fmt.Sprintf("%.3g", quantile(ratios, 0.5))
	}
	return fmt.Sprintf("%.3g (%.3g–%.3g)", quantile(ratios, 0.5), quantile(ratios, 0.25),
		quantile(ratios, 0.75))
}

// quantile sorts the values, and interpolates if none is at the place.
func quantile(values []float64, q float64) float64 {
	slices.Sort(values)
	whole, part := math.Modf(q * float64(len(values)-1))
	i := int(whole)
	return values[i] + part*(values[min(i+1, len(values)-1)]-values[i])
}
