package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTableTakesItsPlaceInTheDocument(t *testing.T) {
	const raw = `cores: 2
go: go1.26
nats.go: v1
nats-server: v2
etcd: v3
rounds: 1
cpu: Some Processor
BenchmarkLook/serial/by=this-2	100	20.00 ns/op	16 B/op	1 allocs/op
BenchmarkLook/serial/by=floor-2	100	10.00 ns/op	0 B/op	0 allocs/op
BenchmarkLook/serial/by=sync.Map-2	100	40.00 ns/op	0 B/op	0 allocs/op
BenchmarkWrite/fsync=no/by=this-2	100	3000 p50-ns	5000000 p99-ns
BenchmarkWrite/fsync=no/by=etcd-2	100	6000 p50-ns	20000000 p99-ns
BenchmarkWrite/fsync=no/by=etcd_endpoints-2	100	1500 p50-ns	2500000 p99-ns
BenchmarkMemory/by=this-2	1	512.0 B/instance
BenchmarkMemory/by=floor-2	1	256.0 B/instance
`
	const want = `prose
<!-- integration/bench/run -->
Machine: Some Processor, 2 cores; go1.26, nats.go v1, nats-server v2, etcd v3; rounds: 1.

| what | this | floor | peers | this/floor | this/peer | allocations |
| --- | --- | --- | --- | --- | --- | --- |
| Look, serial | 20 ns | 10 ns | sync.Map 40 ns | 2 | sync.Map 0.5 | 1 |
| Write, fsync=no: p50 | 3 µs |  ` +
		`| etcd 6 µs, etcd endpoints 1.5 µs |  | etcd 0.5, etcd endpoints 2 |  |
| Write, fsync=no: p99 | 5 ms |  ` +
		`| etcd 20 ms, etcd endpoints 2.5 ms |  | etcd 0.25, etcd endpoints 2 |  |
| Memory: B/instance | 512 | 256 |  | 2 |  |  |
<!-- end -->
more
`
	dir := t.TempDir()
	in, doc := filepath.Join(dir, "raw"), filepath.Join(dir, "doc")
	if err := os.WriteFile(in, []byte(raw), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(doc, []byte("prose\n"+begin+"old\n"+end+"more\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(in, doc); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestRatioIsOfTheSameRound(t *testing.T) {
	r := row{values: map[string][]float64{"this": {10, 40, 90, 30}, "floor": {5, 20, 30, 10}}}
	if got, want := r.ratio("floor"), "2.5 (2–3)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
