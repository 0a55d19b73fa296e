package firmware_test

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store/memory"
)

// TestRepositoryHeals damages an image's file after the process has added it: Open reports the
// damage, and adding the image again repairs it, also for open packages.
func TestRepositoryHeals(t *testing.T) {
	const body = "the bytes of an image"
	for name, damage := range map[string]func(t *testing.T, path string){
		"deleted":        func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"cut":            func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 5)) },
		"empty":          func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) },
		"longer":         func(t *testing.T, path string) { overwrite(t, path, body+"!") },
		"other bytes":    func(t *testing.T, path string) { overwrite(t, path, strings.ToUpper(body)) },
		"folder deleted": func(t *testing.T, path string) { require.NoError(t, os.RemoveAll(filepath.Dir(path))) },
		"folder emptied and cut": func(t *testing.T, path string) {
			require.NoError(t, os.RemoveAll(filepath.Dir(path)))
			require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
			overwrite(t, path, body[:3])
		},
		"another file as old": func(t *testing.T, path string) {
			info, err := os.Stat(path)
			require.NoError(t, err)
			other := path + ".tmp"
			overwrite(t, other, strings.ToUpper(body))
			require.NoError(t, os.Chtimes(other, info.ModTime(), info.ModTime()))
			require.NoError(t, os.Rename(other, path))
		},
	} {
		for _, open := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", open"}[open], func(t *testing.T) {
				if open && runtime.GOOS == "windows" {
					t.Skip("Windows refuses to change a file that is open")
				}
				dir := filepath.Join(t.TempDir(), "images")
				r := openRepository(t, dir, memory.New(), firmware.RepositoryConfig{})
				img, err := r.Add(t.Context(), firmware.Image{Name: "sensor", Version: "1"}, strings.NewReader(body))
				require.NoError(t, err)
				var reader *firmware.Package
				if open {
					reader, err = r.Open(t.Context(), img.ID)
					require.NoError(t, err)
				}
				time.Sleep(10 * time.Millisecond) //nolint:forbidigo // the resolution of some systems' file times
				damage(t, filepath.Join(dir, img.SHA256))
				for range 2 {
					_, err = r.Open(t.Context(), img.ID)
					require.ErrorIs(t, err, firmware.ErrDamaged)
				}

				again, err := r.Add(t.Context(), firmware.Image{Name: "sensor", Version: "1"}, strings.NewReader(body))
				require.NoError(t, err)
				require.Equal(t, img, again)
				if open {
					require.Equal(t, body, readAll(t, reader))
					require.NoError(t, reader.Close())
				}
				p, err := r.Open(t.Context(), img.ID)
				require.NoError(t, err)
				require.Equal(t, body, readAll(t, p))
				require.NoError(t, p.Close())
				require.Equal(t, []string{img.SHA256}, files(t, dir))
			})
		}
	}
}

// TestRepositoryHealsUnseen damages a file without a change of its size or time.
func TestRepositoryHealsUnseen(t *testing.T) {
	dir := t.TempDir()
	r := openRepository(t, dir, memory.New(), firmware.RepositoryConfig{})
	img, err := r.Add(t.Context(), firmware.Image{Version: "1"}, strings.NewReader("abc"))
	require.NoError(t, err)
	path := filepath.Join(dir, img.SHA256)
	info, err := os.Stat(path)
	require.NoError(t, err)
	overwrite(t, path, "abd")
	require.NoError(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	// Another version with the same bytes repairs it too.
	_, err = r.Add(t.Context(), firmware.Image{Version: "2"}, strings.NewReader("abc"))
	require.NoError(t, err)
	p, err := r.Open(t.Context(), img.ID)
	require.NoError(t, err)
	defer p.Close()
	require.Equal(t, "abc", readAll(t, p))
}

// TestRepositoryModes: only their owner can read the files.
func TestRepositoryModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	dir := filepath.Join(t.TempDir(), "a", "images")
	r := openRepository(t, dir, memory.New(), firmware.RepositoryConfig{})
	img, err := r.Add(t.Context(), firmware.Image{Version: "1"}, strings.NewReader("abc"))
	require.NoError(t, err)
	for _, path := range []string{filepath.Dir(dir), dir, filepath.Join(dir, img.SHA256)} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Zero(t, info.Mode()&0o077, path)
	}
}

func overwrite(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

func readAll(t *testing.T, p *firmware.Package) string {
	t.Helper()
	got, err := io.ReadAll(io.NewSectionReader(p, 0, p.Size()))
	require.NoError(t, err)
	return string(got)
}
