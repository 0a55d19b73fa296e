package cbor_test

import (
	"math"
	"testing"

	oracle "github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/cbor"
)

// FuzzSkip compares with fxamacker/cbor: both take the same items, and an error has a place.
func FuzzSkip(f *testing.F) {
	for _, s := range []string{
		"\x00", "\x38\xff", "\x5f\x41a\xff", "\x7f\x61a\x61\xff\xff", "\xbf\x00\x9f\xff\xff", "\xc4\x82\x01\x02", "\xf8\x14",
		"\xfb\x00\x00\x00\x00\x00\x00\x00\x00", "\xff", "\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "\x1f", "\xdf", "\xa1\x00",
	} {
		f.Add([]byte(s))
	}
	const depth = 16
	mode, err := oracle.DecOptions{MaxNestedLevels: depth}.DecMode()
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, data []byte) {
		r := cbor.Reader{S: string(data)}
		err := r.Skip(depth)
		require.True(t, r.Pos >= 0 && r.Pos <= len(data))
		switch err {
		case nil:
			if err := mode.Wellformed(data[:r.Pos]); err != nil {
				require.ErrorContains(t, err, "exceeded max nested level") // tags count otherwise there
			}
		case cbor.ErrTruncated:
			require.Error(t, mode.Wellformed(data))
		}
	})
}

func TestHalf(t *testing.T) {
	for bits := range 1 << 16 {
		r := cbor.Reader{S: string([]byte{0xf9, byte(bits >> 8), byte(bits)})}
		h, err := r.Head()
		require.NoError(t, err)
		f, ok := h.Float()
		require.True(t, ok)
		if math.IsNaN(f) {
			require.Equal(t, "\xf9\x7e\x00", string(cbor.AppendFloat(nil, f)))
			continue
		}
		require.Equal(t, r.S, string(cbor.AppendFloat(nil, f)), "%v", f)
	}
}

// TestShortest compares what is appended with fxamacker/cbor's shortest form.
func TestShortest(t *testing.T) {
	mode, err := oracle.EncOptions{ShortestFloat: oracle.ShortestFloat16}.EncMode()
	require.NoError(t, err)
	same := func(v any, got []byte) {
		t.Helper()
		want, err := mode.Marshal(v)
		require.NoError(t, err)
		require.Equal(t, want, got, "%v", v)
	}
	for _, n := range []int64{0, 1, 23, 24, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxInt64} {
		same(n, cbor.AppendInt(nil, n))
		same(-1-n, cbor.AppendInt(nil, -1-n))
		if n < 1<<17 {
			same(string(make([]byte, n)), cbor.AppendText(nil, string(make([]byte, n))))
			same(make([]byte, n), cbor.AppendBytes(nil, make([]byte, n)))
		}
	}
	for _, f := range []float64{0, math.Copysign(0, -1), 1, 0.1, 65504, 65505, 1e-7, 1.5e-45, 1e300, math.Inf(1), math.Inf(-1)} {
		same(f, cbor.AppendFloat(nil, f))
	}
}
