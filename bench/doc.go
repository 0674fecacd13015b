// Package bench measures the registry side by side with the floor: what the machine and the server can do without
// it. bench/run prints one table; docs/benchmarks.md has the figures.
package bench
