package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

func TestMkdirAll(t *testing.T) {
	root := t.TempDir()
	t.Chdir(root)
	for _, dir := range []string{"a/b/c", filepath.Join(root, "d", "e"), "a/b/c", ".", "f/"} {
		require.NoError(t, MkdirAll(dir, 0o700), dir)
		require.DirExists(t, dir)
	}
	require.NoError(t, os.WriteFile("file", nil, 0o600))
	require.Error(t, MkdirAll("file", 0o700))
	require.Error(t, MkdirAll("file/below", 0o700))
	require.Error(t, SyncDir("none"))
}
