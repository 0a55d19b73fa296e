package lwm2m_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

func TestValueAccessors(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name    string
		v       lwm2m.Value
		typ     lwm2m.Type
		text    string
		int64   any // nil where the accessor reports false
		uint64  any
		float64 any
		bool    any
	}{
		{"zero", lwm2m.Value{}, lwm2m.TypeNone, "", nil, nil, nil, nil},
		{"null", lwm2m.Null(), lwm2m.TypeNull, "null", nil, nil, nil, nil},
		{"string", lwm2m.String("1"), lwm2m.TypeString, "1", nil, nil, nil, nil},
		{"integer", lwm2m.Integer(-2), lwm2m.TypeInteger, "-2", int64(-2), nil, -2.0, nil},
		{"integer 1", lwm2m.Integer(1), lwm2m.TypeInteger, "1", int64(1), uint64(1), 1.0, true},
		{"unsigned", lwm2m.Unsigned(math.MaxUint64), lwm2m.TypeUnsigned, "18446744073709551615", nil, uint64(math.MaxUint64), float64(1 << 64), nil},
		{"unsigned 0", lwm2m.Unsigned(0), lwm2m.TypeUnsigned, "0", int64(0), uint64(0), 0.0, false},
		{"float", lwm2m.Float(1.5), lwm2m.TypeFloat, "1.5", nil, nil, 1.5, nil},
		{"whole float", lwm2m.Float(-3), lwm2m.TypeFloat, "-3", int64(-3), nil, -3.0, nil},
		{"float 2^63", lwm2m.Float(1 << 63), lwm2m.TypeFloat, "9.223372036854776e+18", nil, uint64(1 << 63), float64(1 << 63), nil},
		{"float 2^64", lwm2m.Float(1 << 64), lwm2m.TypeFloat, "1.8446744073709552e+19", nil, nil, float64(1 << 64), nil},
		{"infinity", lwm2m.Float(math.Inf(1)), lwm2m.TypeFloat, "+Inf", nil, nil, math.Inf(1), nil},
		{"boolean", lwm2m.Boolean(true), lwm2m.TypeBoolean, "1", nil, nil, nil, true},
		{"opaque", lwm2m.Opaque([]byte{0, 1}), lwm2m.TypeOpaque, "AAE=", nil, nil, nil, nil},
		{"time", lwm2m.Time(at), lwm2m.TypeTime, "1777636800", int64(1777636800), uint64(1777636800), 1777636800.0, nil},
		{"link", lwm2m.ObjectLink(5, 0), lwm2m.TypeObjectLink, "5:0", nil, nil, nil, nil},
		{"null link", lwm2m.ObjectLink(lwm2m.NoID, lwm2m.NoID), lwm2m.TypeObjectLink, "65535:65535", nil, nil, nil, nil},
		{"core link", lwm2m.CoreLink("</5/0>"), lwm2m.TypeCoreLink, "</5/0>", nil, nil, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.typ, tc.v.Type())
			require.Equal(t, tc.text, tc.v.String())
			i, ok := tc.v.Int64()
			requireMaybe(t, tc.int64, i, ok)
			u, ok := tc.v.Uint64()
			requireMaybe(t, tc.uint64, u, ok)
			f, ok := tc.v.Float64()
			requireMaybe(t, tc.float64, f, ok)
			b, ok := tc.v.Bool()
			requireMaybe(t, tc.bool, b, ok)
		})
	}
	got, ok := lwm2m.Time(at).Time()
	require.True(t, ok)
	require.True(t, at.Equal(got))
	o, i, ok := lwm2m.ObjectLink(33629, 1).ObjectLink()
	require.True(t, ok)
	require.Equal(t, []uint16{33629, 1}, []uint16{o, i})
	_, _, ok = lwm2m.String("1:1").ObjectLink()
	require.False(t, ok)
}

func requireMaybe[T any](t *testing.T, want any, got T, ok bool) {
	t.Helper()
	require.Equal(t, want != nil, ok)
	if ok {
		require.Equal(t, want, any(got))
	}
}

func TestValueOwnsBytes(t *testing.T) {
	b := []byte{1, 2}
	v := lwm2m.Opaque(b)
	b[0] = 9
	got, _ := v.Bytes()
	require.Equal(t, []byte{1, 2}, got)
	got[0] = 9
	again, _ := v.Bytes()
	require.Equal(t, []byte{1, 2}, again)
	require.True(t, v == lwm2m.Opaque([]byte{1, 2}), "values are comparable")
}

func TestValueAs(t *testing.T) {
	at := lwm2m.Time(time.Unix(1700000000, 0))
	for _, tc := range []struct {
		v    lwm2m.Value
		t    lwm2m.Type
		want lwm2m.Value
	}{
		{lwm2m.Integer(5), lwm2m.TypeUnsigned, lwm2m.Unsigned(5)},
		{lwm2m.Integer(5), lwm2m.TypeFloat, lwm2m.Float(5)},
		{lwm2m.Integer(1700000000), lwm2m.TypeTime, at},
		{lwm2m.Float(7), lwm2m.TypeInteger, lwm2m.Integer(7)},
		{lwm2m.Integer(1), lwm2m.TypeBoolean, lwm2m.Boolean(true)},
		{lwm2m.String("x"), lwm2m.TypeCoreLink, lwm2m.CoreLink("x")},
		{lwm2m.String("-12"), lwm2m.TypeInteger, lwm2m.Integer(-12)},
		{lwm2m.String("1e3"), lwm2m.TypeFloat, lwm2m.Float(1000)},
		{lwm2m.String("1"), lwm2m.TypeBoolean, lwm2m.Boolean(true)},
		{lwm2m.String("AAE="), lwm2m.TypeOpaque, lwm2m.Opaque([]byte{0, 1})},
		{lwm2m.String("5:0"), lwm2m.TypeObjectLink, lwm2m.ObjectLink(5, 0)},
		{lwm2m.String("1700000000"), lwm2m.TypeTime, at},
		{lwm2m.Float(1.5), lwm2m.TypeNone, lwm2m.Float(1.5)},
		{lwm2m.Float(2), lwm2m.TypeNone, lwm2m.Float(2)},
		{lwm2m.Opaque([]byte("a")), lwm2m.TypeString, lwm2m.String("a")},
		{lwm2m.Opaque([]byte{0xff, 0xfe}), lwm2m.TypeInteger, lwm2m.Integer(-2)},
		{lwm2m.Opaque([]byte{0xff, 0xfe}), lwm2m.TypeUnsigned, lwm2m.Unsigned(0xfffe)},
		{lwm2m.Opaque([]byte{0x3f, 0xc0, 0, 0}), lwm2m.TypeFloat, lwm2m.Float(1.5)},
		{lwm2m.Opaque([]byte{1}), lwm2m.TypeBoolean, lwm2m.Boolean(true)},
		{lwm2m.Opaque([]byte{0x65, 0x53, 0xf1, 0}), lwm2m.TypeTime, at},
		{lwm2m.Opaque([]byte{0, 5, 0, 1}), lwm2m.TypeObjectLink, lwm2m.ObjectLink(5, 1)},
	} {
		got, ok := tc.v.As(tc.t)
		require.True(t, ok, "%v as %v", tc.v, tc.t)
		require.Equal(t, tc.want, got)
	}
	for _, tc := range []struct {
		v lwm2m.Value
		t lwm2m.Type
	}{
		{lwm2m.Integer(-1), lwm2m.TypeUnsigned},
		{lwm2m.Unsigned(math.MaxUint64), lwm2m.TypeInteger},
		{lwm2m.Float(1.5), lwm2m.TypeInteger},
		{lwm2m.Float(1.5), lwm2m.TypeTime},
		{lwm2m.Float(math.NaN()), lwm2m.TypeInteger},
		{lwm2m.Integer(2), lwm2m.TypeBoolean},
		{lwm2m.Integer(2), lwm2m.TypeString},
		{lwm2m.Opaque([]byte{0xff}), lwm2m.TypeString},
		{lwm2m.Opaque([]byte{1, 2, 3}), lwm2m.TypeInteger},
		{lwm2m.Opaque([]byte{1, 2}), lwm2m.TypeFloat},
		{lwm2m.Opaque([]byte{2}), lwm2m.TypeBoolean},
		{lwm2m.Opaque([]byte{1, 2, 3}), lwm2m.TypeObjectLink},
		{lwm2m.Opaque([]byte{1}), lwm2m.TypeNull},
		{lwm2m.String(""), lwm2m.TypeInteger},
		{lwm2m.String("+1"), lwm2m.TypeInteger},
		{lwm2m.String(" 1"), lwm2m.TypeInteger},
		{lwm2m.String("1_0"), lwm2m.TypeFloat},
		{lwm2m.String("0x1p4"), lwm2m.TypeFloat},
		{lwm2m.String("Inf"), lwm2m.TypeFloat},
		{lwm2m.String("yes"), lwm2m.TypeBoolean},
		{lwm2m.String("AAE"), lwm2m.TypeOpaque},
		{lwm2m.String("5:65536"), lwm2m.TypeObjectLink},
		{lwm2m.String("5"), lwm2m.TypeObjectLink},
		{lwm2m.String(":5"), lwm2m.TypeObjectLink},
		{lwm2m.String("5:"), lwm2m.TypeObjectLink},
		{lwm2m.String("5:0:1"), lwm2m.TypeObjectLink},
	} {
		_, ok := tc.v.As(tc.t)
		require.False(t, ok, "%v as %v", tc.v, tc.t)
	}
}

func TestValueJSON(t *testing.T) {
	for _, tc := range []struct {
		v    lwm2m.Value
		text string
		back lwm2m.Value
	}{
		{lwm2m.String("a\"b"), `"a\"b"`, lwm2m.String("a\"b")},
		{lwm2m.Integer(math.MinInt64), `-9223372036854775808`, lwm2m.Integer(math.MinInt64)},
		{lwm2m.Unsigned(math.MaxUint64), `18446744073709551615`, lwm2m.Unsigned(math.MaxUint64)},
		{lwm2m.Float(1.25), `1.25`, lwm2m.Float(1.25)},
		{lwm2m.Float(2), `2`, lwm2m.Integer(2)},
		{lwm2m.Float(math.NaN()), `"NaN"`, lwm2m.String("NaN")},
		{lwm2m.Boolean(false), `false`, lwm2m.Boolean(false)},
		{lwm2m.Opaque([]byte{255}), `"/w=="`, lwm2m.String("/w==")},
		{lwm2m.Time(time.Unix(1700000000, 0)), `1700000000`, lwm2m.Integer(1700000000)},
		{lwm2m.ObjectLink(5, 0), `"5:0"`, lwm2m.String("5:0")},
		{lwm2m.Null(), `null`, lwm2m.Null()},
	} {
		b, err := json.Marshal(tc.v)
		require.NoError(t, err)
		require.Equal(t, tc.text, string(b))
		var back lwm2m.Value
		require.NoError(t, json.Unmarshal(b, &back))
		require.Equal(t, tc.back, back)
	}
	b, err := json.Marshal(lwm2m.Value{})
	require.NoError(t, err)
	require.Equal(t, "null", string(b))
	for _, bad := range []string{`{}`, `[1]`, ``} {
		require.Error(t, new(lwm2m.Value).UnmarshalJSON([]byte(bad)), bad)
	}
}
