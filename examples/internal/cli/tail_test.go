package cli_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/cli"
)

func TestTail(t *testing.T) {
	short := cli.Tail{Size: 5}
	fmt.Fprintln(&short)
	require.Equal(t, "it wrote nothing", short.String())
	for _, s := range []string{"abc", "defg", "\n"} {
		n, err := short.Write([]byte(s))
		require.NoError(t, err)
		require.Equal(t, len(s), n)
	}
	require.Equal(t, "defg", short.String())

	var zero cli.Tail
	fmt.Fprint(&zero, "first", strings.Repeat("x", 4096))
	require.Equal(t, strings.Repeat("x", 4096), zero.String())
}
