package senml_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/senml"
)

func TestNumberText(t *testing.T) {
	for want, n := range map[string]senml.Number{
		"":                      {},
		"0":                     senml.Float(math.Copysign(0, -1)),
		"-9223372036854775808":  senml.Int(math.MinInt64),
		"18446744073709551615":  senml.Uint(math.MaxUint64),
		"20":                    senml.Float(20),
		"0.1":                   senml.Float(0.1),
		"1e+21":                 senml.Float(1e21),
		"1e-07":                 senml.Float(1e-7),
		"23.4":                  senml.Decimal(2340, -2),
		"-0.00001":              senml.Decimal(-1, -5),
		"1e-8":                  senml.Decimal(1, -8),
		"1200":                  senml.Decimal(12, 2),
		"-1.5":                  senml.Decimal(-15, -1),
		"9223372036854775807e5": senml.Decimal(math.MaxInt64, 5),
		"1699877805.123456789":  senml.Decimal(1699877805123456789, -9),
	} {
		require.Equal(t, want, n.String())
	}
}

func TestNumberConversions(t *testing.T) {
	for _, tc := range []struct {
		n      senml.Number
		i      int64
		u      uint64
		isInt  bool
		isUint bool
	}{
		{senml.Number{}, 0, 0, false, false},
		{senml.Int(-1), -1, 0, true, false},
		{senml.Uint(1 << 63), 0, 1 << 63, false, true},
		{senml.Float(1.638435e9), 1638435000, 1638435000, true, true},
		{senml.Float(0.5), 0, 0, false, false},
		{senml.Decimal(5, 3), 5000, 5000, true, true},
		{senml.Decimal(5, -1), 0, 0, false, false},
		{senml.Float(1e300), 0, 0, false, false},
		{senml.Float(-1 << 63), math.MinInt64, 0, true, false},
		{senml.Float(1 << 63), 0, 1 << 63, false, true},
		{senml.Float(1 << 64), 0, 0, false, false},
		{senml.Decimal(1, 19), 0, 1e19, false, true},
		{senml.Decimal(math.MaxUint64/10+1, 1), 0, 0, false, false},
		{senml.Decimal(-1, 19), 0, 0, false, false},
	} {
		i, ok := tc.n.Int64()
		require.Equal(t, tc.isInt, ok, tc.n)
		if ok {
			require.Equal(t, tc.i, i)
		}
		u, ok := tc.n.Uint64()
		require.Equal(t, tc.isUint, ok, tc.n)
		if ok {
			require.Equal(t, tc.u, u)
		}
	}
}

func TestNumberEqual(t *testing.T) {
	require.True(t, senml.Float(22.4).Equal(senml.Decimal(224, -1)))
	require.True(t, senml.Float(20).Equal(senml.Int(20)))
	require.True(t, senml.Number{}.Equal(senml.Number{}))
	require.False(t, senml.Number{}.Equal(senml.Int(0)))
	require.False(t, senml.Int(1<<53).Equal(senml.Int(1<<53+1)))
	require.False(t, senml.Decimal(1, -1).Equal(senml.Decimal(2, -1)))
	require.False(t, senml.Uint(math.MaxUint64).Equal(senml.Uint(math.MaxUint64-1)))
}

func TestNumberAdd(t *testing.T) {
	for _, tc := range []struct {
		a, b senml.Number
		want string
	}{
		{senml.Number{}, senml.Number{}, ""},
		{senml.Number{}, senml.Int(0), "0"},
		{senml.Int(math.MaxInt64), senml.Int(math.MaxInt64), "18446744073709551614"},
		{senml.Int(math.MinInt64), senml.Int(-1), "-9223372036854775808"},
		{senml.Uint(math.MaxUint64), senml.Int(-1), "18446744073709551614"},
		{senml.Uint(math.MaxUint64), senml.Int(math.MinInt64), "9223372036854775807"},
		{senml.Uint(math.MaxUint64), senml.Int(1), "18446744073709552000"},
		{senml.Decimal(1, -1), senml.Decimal(2, -1), "0.3"},
		{senml.Decimal(1699877805766, -3), senml.Decimal(101, -3), "1699877805.867"},
		{senml.Decimal(15, -1), senml.Int(-1), "0.5"},
		{senml.Float(0.1), senml.Decimal(2, -1), "0.30000000000000004"},
		{senml.Decimal(1, 30), senml.Decimal(1, -30), "1e+30"},
	} {
		if tc.want == "-9223372036854775808" { // as close as float64 is
			require.Equal(t, -0x1p63, tc.a.Add(tc.b).Float64())
			continue
		}
		require.Equal(t, tc.want, tc.a.Add(tc.b).String())
		require.Equal(t, tc.want, tc.b.Add(tc.a).String())
	}
}

func TestTimestamp(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)
	for _, tc := range []struct {
		time senml.Number
		want time.Time
	}{
		{senml.Number{}, now},
		{senml.Int(0), now},
		{senml.Int(-5), now.Add(-5 * time.Second)},
		{senml.Decimal(-15, -1), now.Add(-1500 * time.Millisecond)},
		{senml.Float(-0.25), now.Add(-250 * time.Millisecond)},
		{senml.Int(senml.AbsoluteTime - 1), now.Add((senml.AbsoluteTime - 1) * time.Second)},
		{senml.Int(senml.AbsoluteTime), time.Unix(senml.AbsoluteTime, 0).UTC()},
		{senml.Decimal(1699877805123456789, -9), time.Unix(1699877805, 123456789).UTC()},
		{senml.Decimal(16998778051234567, -7), time.Unix(1699877805, 123456700).UTC()},
		{senml.Decimal(1699877805123456789, -10), now.Add(169987780*time.Second + 512345678)},
		{senml.Float(1e300), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
		{senml.Uint(math.MaxUint64), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
		{senml.Float(-1e300), now.Add(-time.Duration(math.MaxInt64/int64(time.Second)-1) * time.Second)},
	} {
		r := senml.Record{Time: tc.time}
		require.Equal(t, tc.want, r.Timestamp(now), tc.time.String())
	}
	r := senml.Record{Time: senml.UnixTime(now)}
	require.Equal(t, now, r.Timestamp(epoch), "there and back")
	require.Equal(t, "1772600767.000000008", senml.UnixTime(now).String())
	require.Equal(t, "253402300800", senml.UnixTime(time.Unix(253402300800, 0)).String())
}

// TestHalfFloats: every half-precision float is decoded to its value, and encoded in two bytes
// again, unless it is an integer, which may take fewer.
func TestHalfFloats(t *testing.T) {
	for h := range 1 << 16 {
		data := []byte{0x81, 0xa2, 0x00, 0x61, 'a', 0x02, 0xf9, byte(h >> 8), byte(h)}
		records, err := senml.Codec{}.DecodeCBOR(nil, data)
		if h>>10&31 == 31 {
			require.ErrorIs(t, err, senml.ErrNumber)
			continue
		}
		require.NoError(t, err)
		n := records[0].Value.Number()
		if _, ok := n.Int64(); ok {
			continue
		}
		again, err := senml.Codec{}.AppendCBOR(nil, records)
		require.NoError(t, err)
		if string(again) != string(data) {
			t.Fatalf("%x became %x", data, again)
		}
	}
}

// TestShortestNumbers: each number takes the fewest bytes that can hold it.
func TestShortestNumbers(t *testing.T) {
	for _, tc := range []struct {
		n    senml.Number
		want string
	}{
		{senml.Int(23), "\x17"},
		{senml.Int(24), "\x18\x18"},
		{senml.Int(-256), "\x38\xff"},
		{senml.Int(65536), "\x1a\x00\x01\x00\x00"},
		{senml.Int(math.MinInt64), "\x3b\x7f\xff\xff\xff\xff\xff\xff\xff"},
		{senml.Uint(math.MaxUint64), "\x1b\xff\xff\xff\xff\xff\xff\xff\xff"},
		{senml.Float(1.5), "\xf9\x3e\x00"},
		{senml.Float(100000), "\x1a\x00\x01\x86\xa0"},
		{senml.Float(3.0e-5), "\xfb\x3e\xff\x75\x10\x4d\x55\x1d\x69"},
		{senml.Float(0x1p-24), "\xf9\x00\x01"},
		{senml.Float(0x1p-25), "\xfa\x33\x00\x00\x00"},
		{senml.Float(1.1), "\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a"},
		{senml.Decimal(11, -1), "\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a"},
		{senml.Decimal(1699877805123456789, -9), "\xc4\x82\x28\x1b\x17\x97\x2d\xdb\x7f\xf4\x4f\x15"},
	} {
		b, err := senml.Codec{}.AppendCBOR(nil, []senml.Record{{Name: "a", Value: senml.Num(tc.n)}})
		require.NoError(t, err)
		got := string(b[len("\x81\xa2\x00\x61a\x02"):])
		require.Equal(t, tc.want, got, "%v", tc.n)
	}
}
