package firmware

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestIDsRise(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	last := newID(now)
	require.Len(t, last, 26)
	for i := range 10_000 {
		at := now
		if i%100 == 0 {
			at = now.Add(time.Duration(i-5000) * time.Millisecond) // a clock that is set back does not change the order
		}
		id := newID(at)
		require.Greater(t, id, last)
		last = id
	}
	require.Equal(t, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", encodeID(1<<64-1, 1<<64-1))
}
