// Package bench measures the registry beside its floor and beside peers, in one run. The floor is
// what the machine and the server can do without the registry; peers are other ways to the same
// end. A benchmark's sub-benchmarks are named by=this, by=floor and by=PEER; the rest of a name
// distinguishes rows of the table. integration/bench/run prints the table and writes it into
// docs/benchmarks.md.
package bench
