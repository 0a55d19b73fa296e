// Package peers marks tests against implementations of others. Its command, table, makes INTEROP.md
// from their results.
package peers

import (
	"strings"
	"testing"
)

// Attribute is the key of the attribute that marks a test. Its value is the first cells of a row of
// the table.
const Attribute = "interop"

// Mark records what a test exercises: the peer's implementation, its role, the transport, and the
// operation. Call it before anything that may skip the test. Tests with the same cells share a row.
func Mark(t testing.TB, peer, role, transport, what string) {
	t.Helper()
	t.Attr(Attribute, strings.Join([]string{peer, role, transport, what}, " | "))
}
