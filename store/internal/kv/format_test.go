package kv

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFormat compares the format with the one that the document of compatibility promises.
func TestFormat(t *testing.T) {
	text, err := os.ReadFile("../../../doc/compatibility.md")
	require.NoError(t, err)
	require.Contains(t, string(text), fmt.Sprintf("own format, which is %d.", format))
}
