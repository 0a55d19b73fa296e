package tlv_test

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/tlv"
)

// TestOffsets: errors name the place in the outermost input, at any depth.
func TestOffsets(t *testing.T) {
	for _, tc := range []struct {
		name, data string
		offset     int
		want       error
	}{
		{"second element", "c10000c5", 3, tlv.ErrTruncated},
		{"inside an instance", "0400c10000c5", 5, tlv.ErrTruncated},
		{"inside a multiple resource", "8402" + "410000" + "41", 5, tlv.ErrTruncated},
		{"beyond its parent", "8302" + "420000" + "c10000", 2, tlv.ErrTruncated},
		{"reserved two levels down", "080008c100008302" + "61ffff", 8, tlv.ErrReservedID},
		{"value where none may be", "080003c00100", 5, tlv.ErrTruncated},
		{"levels mixed", "c100000100", 3, tlv.ErrNesting},
		{"duplicate two levels down", "080009" + "c10000" + "8402" + "4001" + "4001", 10, tlv.ErrDuplicateID},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tlv.Validate(unhex(t, tc.data))
			syntax, ok := errors.AsType[*tlv.SyntaxError](err)
			require.True(t, ok, "%v", err)
			require.ErrorIs(t, err, tc.want)
			require.Equal(t, tc.offset, syntax.Offset)
		})
	}
}

func TestDecoderStaysAtError(t *testing.T) {
	d := tlv.NewDecoder(unhex(t, "c10001c5"))
	e, err := d.Next()
	require.NoError(t, err)
	require.Equal(t, []byte{1}, e.Value)
	require.Equal(t, 1, cap(e.Value), "appending to a value must not overwrite what follows it")
	_, err = d.Next()
	require.ErrorIs(t, err, tlv.ErrTruncated)
	_, again := d.Next()
	require.Equal(t, err, again)

	d = tlv.NewDecoder(nil)
	_, err = d.Next()
	require.Equal(t, io.EOF, err)
}

func TestValueHasNoChildren(t *testing.T) {
	for _, data := range []string{"c003", "c10300", "4003"} {
		e := first(t, unhex(t, data))
		_, err := decodeTree(e.Decoder())
		require.ErrorIs(t, err, tlv.ErrNesting)
	}
}

// TestDuplicates finds duplicates in any order, among few or many siblings.
func TestDuplicates(t *testing.T) {
	for _, n := range []int{2, 10, 40, 1000, 65535} {
		ids := make([]uint16, n)
		for i := range ids {
			ids[i] = uint16(i * 7919 % 65535) // all different, in no order
		}
		enc := tlv.NewEncoder(nil)
		for _, id := range ids {
			enc.Opaque(tlv.Resource, id, nil)
		}
		good, err := enc.Bytes()
		require.NoError(t, err)
		require.NoError(t, tlv.Validate(good), "%d siblings", n)
		for _, dup := range []uint16{ids[0], ids[n/2], ids[n-1]} {
			enc := tlv.NewEncoder(good)
			enc.Opaque(tlv.Resource, dup, nil)
			bad, err := enc.Bytes()
			require.NoError(t, err)
			err = tlv.Validate(bad)
			require.ErrorIs(t, err, tlv.ErrDuplicateID)
			syntax, _ := errors.AsType[*tlv.SyntaxError](err)
			require.Equal(t, len(good), syntax.Offset)
		}
	}
}

func TestBreakOut(t *testing.T) {
	seen := 0
	for range tlv.All(unhex(t, "c10000c10100c5")) {
		seen++
		if seen == 2 {
			break
		}
	}
	require.Equal(t, 2, seen)
}
