//go:build !race

package testkit

// Race says that the race detector makes everything ten times slower.
const Race = false
