package firmware_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store/memory"
)

// TestLabelsBelongToTheCaller changes the labels of updates that the manager returned.
func TestLabelsBelongToTheCaller(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		r := w.request()
		r.Labels = map[string]string{"site": "north"}
		u, err := w.mgr.Start(w.ctx, r)
		require.NoError(t, err)
		for range 2 {
			u.Labels["site"] = "south"
			u, err = w.mgr.Get(w.ctx, u.ID)
			require.NoError(t, err)
			require.Equal(t, "north", u.Labels["site"])
		}
	})
}

// TestClosedPackage reads a package that was closed while another user has the same image open.
func TestClosedPackage(t *testing.T) {
	images, err := firmware.OpenRepository(t.TempDir(), memory.New(), firmware.RepositoryConfig{})
	require.NoError(t, err)
	img, err := images.Add(t.Context(), firmware.Image{Name: "sensor", Version: "1.0"}, bytes.NewReader([]byte("image")))
	require.NoError(t, err)
	first, err := images.Open(t.Context(), img.ID)
	require.NoError(t, err)
	second, err := images.Open(t.Context(), img.ID)
	require.NoError(t, err)
	defer second.Close()
	require.NoError(t, first.Close())
	_, err = first.ReadAt(make([]byte, 3), 0)
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = second.ReadAt(make([]byte, 3), 0)
	require.NoError(t, err)
}
