package tlv_test

import (
	"bytes"
	"encoding/hex"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/tlv"
)

func TestEncoderSizes(t *testing.T) {
	// Each container gets the smallest length field, whatever the size of its content.
	for _, size := range []int{0, 1, 5, 6, 250, 252, 253, 254, 65_529, 65_531, 65_532, 70_000} {
		for _, id := range []uint16{0, 255, 256, tlv.MaxID} {
			value := bytes.Repeat([]byte{'x'}, size)
			enc := tlv.NewEncoder([]byte("before"))
			enc.Begin(tlv.ObjectInstance, id)
			enc.Begin(tlv.MultipleResource, id)
			enc.Opaque(tlv.ResourceInstance, id, value)
			enc.End()
			enc.End()
			got, err := enc.Bytes()
			require.NoError(t, err)

			want := value
			for _, k := range []tlv.Kind{tlv.ResourceInstance, tlv.MultipleResource, tlv.ObjectInstance} {
				want = append(tlv.AppendHeader(nil, k, id, len(want)), want...)
			}
			require.Equal(t, append([]byte("before"), want...), got)
		}
	}
}

func TestEncoderValues(t *testing.T) {
	for _, tc := range []struct {
		want   string
		encode func(*tlv.Encoder)
	}{
		{"c10580", func(e *tlv.Encoder) { e.Int(tlv.Resource, 5, -128) }},
		{"c205ff7f", func(e *tlv.Encoder) { e.Int(tlv.Resource, 5, -129) }},
		{"c80508" + "8000000000000000", func(e *tlv.Encoder) { e.Int(tlv.Resource, 5, math.MinInt64) }},
		{"c105ff", func(e *tlv.Encoder) { e.Uint(tlv.Resource, 5, 255) }},
		{"c205ffff", func(e *tlv.Encoder) { e.Uint(tlv.Resource, 5, 65535) }},
		{"c40500010000", func(e *tlv.Encoder) { e.Uint(tlv.Resource, 5, 65536) }},
		{"c4053f800000", func(e *tlv.Encoder) { e.Float(tlv.Resource, 5, 1) }},
		{"c805083fb999999999999a", func(e *tlv.Encoder) { e.Float(tlv.Resource, 5, 0.1) }},
		{"c4057f800000", func(e *tlv.Encoder) { e.Float(tlv.Resource, 5, math.Inf(1)) }},
		{"c4057fc00000", func(e *tlv.Encoder) { e.Float(tlv.Resource, 5, math.NaN()) }},
		{"c10501", func(e *tlv.Encoder) { e.Bool(tlv.Resource, 5, true) }},
		{"c10500", func(e *tlv.Encoder) { e.Bool(tlv.Resource, 5, false) }},
		{"c4050042ffff", func(e *tlv.Encoder) { e.ObjectLink(tlv.Resource, 5, 66, 65535) }},
		{"c005", func(e *tlv.Encoder) { e.Text(tlv.Resource, 5, "") }},
		{"61010061", func(e *tlv.Encoder) { e.Text(tlv.ResourceInstance, 256, "a") }},
	} {
		enc := tlv.NewEncoder(nil)
		tc.encode(&enc)
		got, err := enc.Bytes()
		require.NoError(t, err)
		require.Equal(t, tc.want, hex.EncodeToString(got))
	}
}

func TestEncoderRefuses(t *testing.T) {
	const r, m, o, i = tlv.Resource, tlv.MultipleResource, tlv.ObjectInstance, tlv.ResourceInstance
	for name, tc := range map[string]struct {
		want   error
		encode func(*tlv.Encoder)
	}{
		"reserved id":             {tlv.ErrReservedID, func(e *tlv.Encoder) { e.Int(r, 65535, 1) }},
		"reserved id of parent":   {tlv.ErrReservedID, func(e *tlv.Encoder) { e.Begin(o, 65535); e.End() }},
		"reserved second parent":  {tlv.ErrReservedID, func(e *tlv.Encoder) { e.Begin(o, 1); e.End(); e.Begin(o, 65535) }},
		"value in multiple":       {tlv.ErrNesting, func(e *tlv.Encoder) { e.Begin(m, 1); e.Int(r, 1, 1); e.End() }},
		"instance in instance":    {tlv.ErrNesting, func(e *tlv.Encoder) { e.Begin(o, 1); e.Begin(o, 1) }},
		"resource instance in it": {tlv.ErrNesting, func(e *tlv.Encoder) { e.Begin(o, 1); e.Int(i, 1, 1) }},
		"multiple in multiple":    {tlv.ErrNesting, func(e *tlv.Encoder) { e.Begin(m, 1); e.Begin(m, 1) }},
		"three deep":              {tlv.ErrNesting, func(e *tlv.Encoder) { e.Begin(o, 1); e.Begin(m, 1); e.Begin(m, 1) }},
		"begin of a value":        {tlv.ErrNesting, func(e *tlv.Encoder) { e.Begin(r, 1) }},
		"levels side by side":     {tlv.ErrNesting, func(e *tlv.Encoder) { e.Begin(o, 1); e.End(); e.Int(r, 1, 1) }},
		"unknown kind":            {tlv.ErrNesting, func(e *tlv.Encoder) { e.Int(4, 1, 1) }},
		"value of an instance":    {tlv.ErrNesting, func(e *tlv.Encoder) { e.Int(o, 1, 1) }},
		"value of a multiple":     {tlv.ErrNesting, func(e *tlv.Encoder) { e.Begin(o, 1); e.Opaque(m, 1, nil) }},
		"begin without end":       {tlv.ErrUnbalanced, func(e *tlv.Encoder) { e.Begin(o, 1) }},
		"end without begin":       {tlv.ErrUnbalanced, func(e *tlv.Encoder) { e.End() }},
		"long value":              {tlv.ErrLength, func(e *tlv.Encoder) { e.Opaque(r, 1, make([]byte, tlv.MaxLength+1)) }},
		"long children": {tlv.ErrLength, func(e *tlv.Encoder) {
			e.Begin(m, 1)
			e.Opaque(i, 1, make([]byte, tlv.MaxLength-1))
			e.End()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			enc := tlv.NewEncoder(nil)
			enc.Begin(o, 7)
			enc.End()
			good, err := enc.Bytes()
			require.NoError(t, err)
			enc = tlv.NewEncoder(good)
			tc.encode(&enc)
			if tc.want != tlv.ErrUnbalanced {
				enc.Int(tlv.Resource, 2, 2) // the first error stays
				enc.End()
			}
			_, err = enc.Bytes()
			require.ErrorIs(t, err, tc.want)
			var syntax *tlv.SyntaxError
			require.ErrorAs(t, err, &syntax)
			require.GreaterOrEqual(t, syntax.Offset, len(good))
		})
	}
}

func TestZeroEncoder(t *testing.T) {
	var enc tlv.Encoder
	enc.Begin(tlv.ObjectInstance, 3)
	enc.Bool(tlv.Resource, 4, true)
	enc.End()
	got, err := enc.Bytes()
	require.NoError(t, err)
	require.Equal(t, "0303c10401", hex.EncodeToString(got))

	enc = tlv.Encoder{}
	enc.Int(4, 1, 1)
	_, err = enc.Bytes()
	require.ErrorIs(t, err, tlv.ErrNesting)

	enc = tlv.Encoder{}
	enc.Int(tlv.Resource, 65535, 1)
	enc.Int(tlv.Resource, 1, 1)
	got, err = enc.Bytes()
	require.ErrorIs(t, err, tlv.ErrReservedID)
	require.Empty(t, got)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestHeader(t *testing.T) {
	for _, id := range []uint16{0, 255, 256, tlv.MaxID} {
		for _, n := range []int{0, 7, 8, 255, 256, 65535, 65536, tlv.MaxLength} {
			b := tlv.AppendHeader(nil, tlv.Resource, id, n)
			want := 2 + btoi(id > 255) + btoi(n > 7) + btoi(n > 255) + btoi(n > 65535)
			require.Len(t, b, want, "the shortest form")
			kind, gotID, length, size, err := tlv.ParseHeader(b)
			require.NoError(t, err)
			require.Equal(t, []any{tlv.Resource, id, n, want}, []any{kind, gotID, length, size})
			for cut := range b {
				_, _, _, _, err := tlv.ParseHeader(b[:cut])
				require.ErrorIs(t, err, tlv.ErrTruncated)
			}
		}
	}
}
