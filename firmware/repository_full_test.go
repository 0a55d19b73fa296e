//go:build unix

package firmware

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/otago-iot/otago/internal/disk"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
	"github.com/otago-iot/otago/store/storetest"
)

// TestRepositoryNoSpace fills the disk at each operation of an upload: the error says so, no file
// is left, and the same upload succeeds when there is room.
func TestRepositoryNoSpace(t *testing.T) {
	for n := 0; ; n++ {
		dir := t.TempDir()
		left, hit := -1, ""
		r, err := openRepository(dir, memory.New(), RepositoryConfig{}, disk.Files{Hook: func(op string) error {
			if left--; left == -1 && !strings.HasPrefix(op, "remove ") {
				hit = op
				return &fs.PathError{Op: "op", Path: op, Err: unix.ENOSPC}
			}
			return nil
		}})
		require.NoError(t, err)
		left = n
		_, err = r.Add(t.Context(), Image{Version: "1"}, strings.NewReader("abc"))
		if hit == "" {
			require.NoError(t, err)
			require.Equal(t, 5, n, "create, write, sync, rename, sync directory")
			return
		}
		require.ErrorIs(t, err, store.ErrNoSpace, hit)
		require.NotErrorIs(t, err, ErrDamaged, hit)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries, hit)
		_, err = r.Add(t.Context(), Image{Version: "1"}, strings.NewReader("abc"))
		require.NoError(t, err, hit)
	}
}

// TestRepositoryStoreNoSpace: if the store is full, Add removes the bytes, unless another image has
// them too.
func TestRepositoryStoreNoSpace(t *testing.T) {
	full := false
	db := &storetest.Faulty{Store: memory.New(), Before: func(_ context.Context, c storetest.Call) error {
		if full && c.Method == "Commit" {
			return store.ErrNoSpace
		}
		return nil
	}}
	dir := t.TempDir()
	r, err := openRepository(dir, db, RepositoryConfig{}, disk.Files{})
	require.NoError(t, err)
	full = true
	_, err = r.Add(t.Context(), Image{Version: "1"}, strings.NewReader("abc"))
	require.ErrorIs(t, err, store.ErrNoSpace)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	full = false
	img, err := r.Add(t.Context(), Image{Version: "1"}, strings.NewReader("abc"))
	require.NoError(t, err)
	full = true
	_, err = r.Add(t.Context(), Image{Version: "2"}, strings.NewReader("abc"))
	require.ErrorIs(t, err, store.ErrNoSpace)
	p, err := r.Open(t.Context(), img.ID)
	require.NoError(t, err)
	require.NoError(t, p.Close())
}

// TestRepositoryBodyError: an error of the body about a full disk does not match store.ErrNoSpace.
func TestRepositoryBodyError(t *testing.T) {
	r, err := openRepository(t.TempDir(), memory.New(), RepositoryConfig{}, disk.Files{})
	require.NoError(t, err)
	theirs := &fs.PathError{Op: "read", Path: "theirs", Err: unix.ENOSPC}
	_, err = r.Add(t.Context(), Image{Version: "1"}, readerFunc(func([]byte) (int, error) { return 0, theirs }))
	require.ErrorIs(t, err, theirs)
	require.False(t, errors.Is(err, store.ErrNoSpace))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
