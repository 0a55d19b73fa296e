// Package peers marks tests against implementations that we did not write. Its command table makes
// INTEROP.md of what became of them.
package peers

import (
	"strings"
	"testing"
)

// Attribute is the key of the attribute that marks a test. Its value is the first cells of a row of
// the table.
const Attribute = "interop"

// Mark says what a test tries, and with whom: the implementation, the role that it plays, the
// transport, and what for. It is called before anything that may skip the test. Tests with the same
// words share a row.
func Mark(t testing.TB, peer, role, transport, what string) {
	t.Helper()
	t.Attr(Attribute, strings.Join([]string{peer, role, transport, what}, " | "))
}
