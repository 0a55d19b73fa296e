package postgres

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
)

// An array of texts is encoded as pgx encodes a []string, in either format. In the binary one, what
// is allocated does not depend on how many there are.
func TestTexts(t *testing.T) {
	m := pgtype.NewMap()
	for _, all := range [][]string{nil, {}, {"a"}, {"", "NULL", `"{\}`, "ä, b", "c"}} {
		for _, format := range []int16{pgtype.BinaryFormatCode, pgtype.TextFormatCode} {
			want, err := m.Encode(pgtype.TextArrayOID, format, all, nil)
			require.NoError(t, err)
			got, err := m.Encode(pgtype.TextArrayOID, format, texts(all), nil)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}
	buffer := make([]byte, 0, 1<<16)
	allocations := func(n int) float64 {
		all := texts(slices.Repeat([]string{"u0001"}, n))
		return testing.AllocsPerRun(10, func() {
			if _, err := m.Encode(pgtype.TextArrayOID, pgtype.BinaryFormatCode, all, buffer); err != nil {
				t.Error(err)
			}
		})
	}
	require.Less(t, allocations(1000), allocations(1)+10)
}
