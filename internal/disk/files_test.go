package disk

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDiskReplace makes each step of replacing a file fail: the error is returned, and the file has
// its old or its new content.
func TestDiskReplace(t *testing.T) {
	for n := range 6 {
		dir := t.TempDir()
		path := dir + "/record"
		require.NoError(t, Files{}.Replace(path, []byte("old")))
		broken, ops := errors.New("broken"), 0
		d := Files{Hook: func(string) error {
			if ops++; ops == n+1 {
				return broken
			}
			return nil
		}}
		err := d.Replace(path, []byte("new"))
		got, failed := os.ReadFile(path)
		require.NoError(t, failed)
		if n == 5 {
			require.NoError(t, err)
			require.Equal(t, 5, ops, "create, write, sync, rename, sync of the directory")
		} else {
			require.ErrorIs(t, err, broken)
		}
		require.Equal(t, n >= 4, string(got) == "new", "step %d", n)
		if n == 1 || n == 2 {
			require.NoFileExists(t, path+".new", "its room is needed")
		}
	}
	require.Error(t, Files{}.Replace(t.TempDir()+"/none/record", nil))
	require.NoError(t, Files{}.Remove(t.TempDir()+"/none"))
	full := t.TempDir()
	require.NoError(t, os.WriteFile(full+"/x", nil, 0o600))
	require.Error(t, Files{}.Remove(full))
	require.Error(t, Files{}.SyncDir(full+"/none"))
}
