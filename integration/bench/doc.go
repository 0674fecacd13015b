// Package bench measures the registry beside its floor, what the machine and the server can do without it, and beside
// peers, other ways to the same end, in one run. A benchmark's sub-benchmarks are named by=this, by=floor and by=PEER;
// what else is in a name tells rows of the table apart. integration/bench/run prints the table and writes it into docs/benchmarks.md.
package bench
