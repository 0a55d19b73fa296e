//go:build unix

package postgres_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/store/postgres"
)

func TestBlobs(t *testing.T) {
	open := func(t testing.TB) firmware.Blobs {
		db := fresh(t).(*postgres.Store)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		return db.Blobs()
	}
	firmwaretest.RunBlobs(t, open)

	// Pieces are joined.
	blobs := open(t)
	for _, size := range []int{1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 1 << 20} {
		data := bytes.Repeat([]byte("0123456789abcdefg"), size/17+1)[:size]
		require.NoError(t, blobs.Put(t.Context(), "d", io.NewSectionReader(bytes.NewReader(data), 0, int64(size))))
		for _, offset := range []int64{0, 1, 256<<10 - 1, 256 << 10, int64(size) - 1} {
			if offset < 0 || offset >= int64(size) {
				continue
			}
			r, err := blobs.Open(t.Context(), "d", offset)
			require.NoError(t, err)
			got, err := io.ReadAll(r)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data[offset:], got), "%d bytes from %d: %d", size, offset, len(got))
		}
	}
}
