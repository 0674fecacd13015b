//go:build race

package integration

// raced says whether the race detector is on, which makes everything many times slower.
const raced = true
