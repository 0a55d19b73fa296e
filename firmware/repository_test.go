package firmware_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
	"github.com/otago-iot/otago/store/storetest"
)

// TestCompatibleImage keeps for which devices an image is made, and refuses the same bytes for
// others under its name and version.
func TestCompatibleImage(t *testing.T) {
	images := openRepository(t, t.TempDir(), memory.New(), firmware.RepositoryConfig{})
	made := firmware.Image{Name: "sensor", Version: "1.0", Compatible: store.Compatible{Model: "S1"}}
	add := func(i firmware.Image) (firmware.Image, error) {
		return images.Add(t.Context(), i, strings.NewReader("image"))
	}
	for range 2 {
		img, err := add(made)
		require.NoError(t, err)
		require.Equal(t, made.Compatible, img.Compatible)
	}
	other := made
	other.Compatible = store.Compatible{}
	_, err := add(other)
	require.ErrorIs(t, err, store.ErrVersionTaken)
	other.Version = "1.1"
	_, err = add(other)
	require.NoError(t, err)
	made.Compatible.Model = "\n"
	_, err = add(made)
	require.ErrorIs(t, err, store.ErrInvalid)
}

func openRepository(t testing.TB, dir string, db store.Store, config firmware.RepositoryConfig) *firmware.Repository {
	t.Helper()
	r, err := firmware.OpenRepository(dir, db, config)
	require.NoError(t, err)
	return r
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// files lists the files in a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRepositoryAdd(t *testing.T) {
	dir, db := filepath.Join(t.TempDir(), "a[b]", "images"), memory.New()
	r := openRepository(t, dir, db, firmware.RepositoryConfig{})
	body := []byte("the bytes of an image")

	img, err := r.Add(t.Context(), firmware.Image{Name: "sensor", Version: "1.1.0", ID: "ignored", Size: 1}, bytes.NewReader(body))
	require.NoError(t, err)
	require.Len(t, img.ID, 32)
	require.Equal(t, int64(len(body)), img.Size)
	require.Equal(t, digest(body), img.SHA256)
	require.False(t, img.Created.IsZero())
	got, err := r.Get(t.Context(), img.ID)
	require.NoError(t, err)
	require.Equal(t, img, got)
	require.Equal(t, []string{img.SHA256}, files(t, dir))

	again, err := r.Add(t.Context(), firmware.Image{Name: "sensor", Version: "1.1.0"}, bytes.NewReader(body))
	require.NoError(t, err)
	require.Equal(t, img, again, "the same again")

	_, err = r.Add(t.Context(), firmware.Image{Name: "sensor", Version: "1.1.0"}, strings.NewReader("others"))
	require.ErrorIs(t, err, store.ErrVersionTaken)
	require.Equal(t, []string{img.SHA256}, files(t, dir))

	twin, err := r.Add(t.Context(), firmware.Image{Name: "other", Version: "1.1.0"}, bytes.NewReader(body))
	require.NoError(t, err)
	require.NotEqual(t, img.ID, twin.ID)
	require.Equal(t, []string{img.SHA256}, files(t, dir), "images with the same bytes share a file")

	require.NoError(t, r.Delete(t.Context(), img.ID))
	require.Equal(t, []string{img.SHA256}, files(t, dir), "the other image needs it")
	require.ErrorIs(t, r.Delete(t.Context(), img.ID), store.ErrNotFound)
	require.NoError(t, r.Delete(t.Context(), twin.ID))
	require.Empty(t, files(t, dir))
	for range r.List(t.Context(), store.ImageQuery{}) {
		t.Fatal("an image is left")
	}
}

func TestRepositoryRefuses(t *testing.T) {
	dir := t.TempDir()
	r := openRepository(t, dir, memory.New(), firmware.RepositoryConfig{MaxSize: 100})
	broken := errors.New("the upload broke off")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	ok := firmware.Image{Name: "sensor", Version: "1"}
	for _, test := range []struct {
		name string
		ctx  context.Context
		img  firmware.Image
		body io.Reader
		want error
	}{
		{"empty", t.Context(), ok, strings.NewReader(""), firmware.ErrEmpty},
		{"too big", t.Context(), ok, bytes.NewReader(make([]byte, 101)), firmware.ErrTooLarge},
		{"endless", t.Context(), ok, endless{}, firmware.ErrTooLarge},
		{"broken off", t.Context(), ok, io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), broken},
		{"cancelled", ended, ok, strings.NewReader("abc"), context.Canceled},
		{"no version", t.Context(), firmware.Image{Name: "sensor"}, strings.NewReader("abc"), store.ErrInvalid},
		{"control character", t.Context(), firmware.Image{Version: "1\n"}, strings.NewReader("abc"), store.ErrInvalid},
		{"not UTF-8", t.Context(), firmware.Image{Version: "1", Name: "\xff"}, strings.NewReader("abc"), store.ErrInvalid},
		{"long", t.Context(), firmware.Image{Version: strings.Repeat("1", 256)}, strings.NewReader("abc"), store.ErrInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := r.Add(test.ctx, test.img, test.body)
			require.ErrorIs(t, err, test.want)
			require.Empty(t, files(t, dir))
		})
	}
	_, err := r.Add(t.Context(), firmware.Image{Version: strings.Repeat("1", 255)}, bytes.NewReader(make([]byte, 100)))
	require.NoError(t, err, "just small enough, and without a name")
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestRepositoryDeleteInUse(t *testing.T) {
	dir, db := t.TempDir(), memory.New()
	r := openRepository(t, dir, db, firmware.RepositoryConfig{})
	img, err := r.Add(t.Context(), firmware.Image{Version: "1"}, strings.NewReader("abc"))
	require.NoError(t, err)
	_, err = db.Commit(t.Context(), store.CreateUpdate{Update: store.Update{
		ID: "u1", Endpoint: "ep", Image: img.ID, Machine: fsm.NewUpdate(fsm.Plan{}, img.Created),
	}})
	require.NoError(t, err)
	require.ErrorIs(t, r.Delete(t.Context(), img.ID), store.ErrInUse)
	require.Len(t, files(t, dir), 1)
}

func TestRepositoryOpen(t *testing.T) {
	dir, db := t.TempDir(), memory.New()
	r := openRepository(t, dir, db, firmware.RepositoryConfig{})
	body := bytes.Repeat([]byte("0123456789"), 1000)
	img, err := r.Add(t.Context(), firmware.Image{Version: "1"}, bytes.NewReader(body))
	require.NoError(t, err)

	first, err := r.Open(t.Context(), img.ID)
	require.NoError(t, err)
	second, err := r.Open(t.Context(), img.ID)
	require.NoError(t, err)
	require.NoError(t, first.Close())
	require.NoError(t, first.Close())
	require.NoError(t, r.Delete(t.Context(), img.ID))
	got, err := io.ReadAll(io.NewSectionReader(second, 0, second.Size()))
	require.NoError(t, err, "who has it open can read it")
	require.True(t, bytes.Equal(body, got))
	require.Equal(t, img.SHA256, second.Image().SHA256)
	require.Equal(t, img.SHA256[:16], hex.EncodeToString(second.ETag()))
	require.Equal(t, img, second.Image())
	require.NoError(t, second.Close())
	_, err = second.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = r.Open(t.Context(), img.ID)
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestRepositoryDamage(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"bit":     func(path string) error { return os.WriteFile(path, []byte("abd"), 0o600) },
		"short":   func(path string) error { return os.Truncate(path, 2) },
		"missing": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			dir, db := t.TempDir(), memory.New()
			img, err := openRepository(t, dir, db, firmware.RepositoryConfig{}).
				Add(t.Context(), firmware.Image{Version: "1"}, strings.NewReader("abc"))
			require.NoError(t, err)
			require.NoError(t, damage(filepath.Join(dir, img.SHA256)))

			r := openRepository(t, dir, db, firmware.RepositoryConfig{})
			for range 2 {
				_, err = r.Open(t.Context(), img.ID)
				require.ErrorIs(t, err, firmware.ErrDamaged)
			}
			healed, err := r.Add(t.Context(), firmware.Image{Version: "1"}, strings.NewReader("abc"))
			require.NoError(t, err)
			require.Equal(t, img, healed)
			p, err := r.Open(t.Context(), img.ID)
			require.NoError(t, err)
			require.NoError(t, p.Close())
		})
	}
}

// TestRepositoryCut damages a file that the process has verified.
func TestRepositoryCut(t *testing.T) {
	dir := t.TempDir()
	r := openRepository(t, dir, memory.New(), firmware.RepositoryConfig{})
	img, err := r.Add(t.Context(), firmware.Image{Version: "1"}, strings.NewReader("abc"))
	require.NoError(t, err)
	require.NoError(t, os.Truncate(filepath.Join(dir, img.SHA256), 2))
	_, err = r.Open(t.Context(), img.ID)
	require.ErrorIs(t, err, firmware.ErrDamaged)
}

// TestRepositoryLateCancel ends the context while the record is written: Add must still learn the
// result.
func TestRepositoryLateCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	db := &storetest.Faulty{Store: memory.New(), Before: func(ctx context.Context, _ storetest.Call) error {
		cancel()
		return ctx.Err()
	}}
	r := openRepository(t, t.TempDir(), db, firmware.RepositoryConfig{})
	_, err := r.Add(ctx, firmware.Image{Version: "1"}, strings.NewReader("abc"))
	require.NoError(t, err)
}

func TestRepositoryCleansUp(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "upload-123.tmp")
	require.NoError(t, os.WriteFile(left, []byte("half an im"), 0o600))
	mine := filepath.Join(dir, "notes.txt")
	require.NoError(t, os.WriteFile(mine, nil, 0o600))
	openRepository(t, dir, memory.New(), firmware.RepositoryConfig{})
	require.Equal(t, []string{"notes.txt"}, files(t, dir))
	_, err := firmware.OpenRepository(dir, memory.New(), firmware.RepositoryConfig{MaxSize: -1})
	require.ErrorContains(t, err, "MaxSize")
}

// TestRepositoryCrash simulates a crash before and after each commit: every record has its file.
func TestRepositoryCrash(t *testing.T) {
	run := func(ctx context.Context, r *firmware.Repository) error {
		a, err := r.Add(ctx, firmware.Image{Name: "a", Version: "1"}, strings.NewReader("abc"))
		if err != nil {
			return err
		}
		if _, err := r.Add(ctx, firmware.Image{Name: "b", Version: "1"}, strings.NewReader("abc")); err != nil {
			return err
		}
		return r.Delete(ctx, a.ID)
	}
	count := storetest.NewCrash(memory.New(), storetest.Cut{}, nil)
	require.NoError(t, run(t.Context(), openRepository(t, t.TempDir(), count, firmware.RepositoryConfig{})))
	for cut := range storetest.Cuts(count.Points()) {
		dir, db := t.TempDir(), memory.New()
		r := openRepository(t, dir, storetest.NewCrash(db, cut, nil), firmware.RepositoryConfig{})
		require.ErrorIs(t, run(t.Context(), r), storetest.ErrCrashed)
		r = openRepository(t, dir, db, firmware.RepositoryConfig{})
		for img, err := range r.List(t.Context(), store.ImageQuery{}) {
			require.NoError(t, err)
			p, err := r.Open(t.Context(), img.ID)
			require.NoError(t, err, "%v: image %s", cut, img.Name)
			require.NoError(t, p.Close())
		}
		require.NoError(t, run(t.Context(), r), "%v: once more", cut)
	}
}

// TestRepositoryRace adds and deletes images with the same bytes concurrently: every record keeps
// its file.
func TestRepositoryRace(t *testing.T) {
	dir, db := t.TempDir(), memory.New()
	r := openRepository(t, dir, db, firmware.RepositoryConfig{})
	var work sync.WaitGroup
	for w := range 8 {
		work.Go(func() {
			for n := range 20 {
				img, err := r.Add(t.Context(), firmware.Image{Name: fmt.Sprint(w), Version: "1"}, strings.NewReader("abc"))
				if err != nil {
					t.Errorf("Add: %v", err)
					return
				}
				p, err := r.Open(t.Context(), img.ID)
				if err != nil {
					t.Errorf("Open: %v", err)
					return
				}
				if w == 0 && n == 19 {
					_ = p.Close()
					return // this one stays
				}
				if err := errors.Join(r.Delete(t.Context(), img.ID), p.Close()); err != nil {
					t.Errorf("Delete: %v", err)
				}
			}
		})
	}
	work.Wait()
	require.Equal(t, []string{digest([]byte("abc"))}, files(t, dir))
}

func ExampleOpenRepository() {
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	images, err := firmware.OpenRepository(dir, memory.New(), firmware.RepositoryConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	img, err := images.Add(context.Background(), firmware.Image{Name: "sensor", Version: "1.1.0"}, strings.NewReader("..."))
	fmt.Println(img.Name, img.Version, img.Size, err)
	// Output: sensor 1.1.0 3 <nil>
}
