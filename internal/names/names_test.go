package names_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/names"
)

func TestCheck(t *testing.T) {
	for name, want := range map[string]string{
		"":            "is empty",
		"a":           "has 1 bytes, fewer than 2",
		"ab":          "",
		"Ωmega 1.0":   "",
		"12345678901": "has 11 bytes, more than 10",
		"ab\xff":      "is not UTF-8",
		"a\x00b":      "has a control character",
		"a\u0085b":    "has a control character",
	} {
		require.Equal(t, want, names.Check(name, 2, 10), "%q", name)
	}
	require.Empty(t, names.Check("", 0, 0))
}
