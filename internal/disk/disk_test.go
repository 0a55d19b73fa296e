package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFull(t *testing.T) {
	for _, full := range full {
		err := error(&fs.PathError{Op: "write", Path: "a", Err: full})
		require.True(t, Full(err))
		require.True(t, Full(fmt.Errorf("commit: %w", err)))
		require.True(t, Full(fmt.Errorf("file resize error: %s", err))) //nolint:errorlint // as bbolt does
	}
	require.False(t, Full(nil))
	require.False(t, Full(fs.ErrPermission))
	require.False(t, Full(errors.New("a full disk")))
}

func TestCreate(t *testing.T) {
	path := t.TempDir() + "/key"
	require.NoError(t, Create(path, 0o600, []byte("a")))
	require.ErrorIs(t, Create(path, 0o600, []byte("b")), fs.ErrExist)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "a", string(got))
}

func TestSyncDir(t *testing.T) {
	require.NoError(t, SyncDir(t.TempDir()))
	if runtime.GOOS != "windows" {
		require.Error(t, SyncDir("none"))
	}
}
