package ulid

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestIDsRise(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	last := New(now)
	require.Len(t, last, 26)
	for i := range 10_000 {
		at := now
		if i%100 == 0 {
			at = now.Add(time.Duration(i-5000) * time.Millisecond) // a clock that is set back does not change the order
		}
		id := New(at)
		require.Greater(t, id, last)
		last = id
	}
	require.Equal(t, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", encode(1<<64-1, 1<<64-1))
}

// TestIDs: an id holds its creation time, as other ULIDs do, and ids rise whatever the clock says.
func TestIDs(t *testing.T) {
	at := time.UnixMilli(1469918176385)
	id := New(time.Now())
	require.Len(t, id, 26)
	var s source
	first := s.next(at)
	require.Equal(t, "01ARYZ6S41", first[:10])
	require.Less(t, first[10], byte('G'), "the highest of the random bits is clear")
	hi, lo := s.hi, s.lo
	require.Less(t, first, s.next(at))
	require.Equal(t, [2]uint64{hi, lo + 1}, [2]uint64{s.hi, s.lo})
	require.Less(t, first, s.next(at.Add(-time.Hour)), "the clock was set back")
	s.lo = math.MaxUint64
	last := encode(s.hi, s.lo)
	require.Less(t, last, s.next(at), "over the half")
	require.Equal(t, [2]uint64{hi + 1, 0}, [2]uint64{s.hi, s.lo})
	require.Equal(t, "01ARYZ6S42", s.next(at.Add(time.Millisecond))[:10])
	require.Equal(t, "00000000000000000000000000", encode(0, 0))
	require.Equal(t, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", encode(math.MaxUint64, math.MaxUint64))
	require.Equal(t, "0000000000000G000000000001", encode(1, 1))
}
