//go:build race

package integration

// raced says whether the race detector is on, with which everything takes many times as long.
const raced = true
