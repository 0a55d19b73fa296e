package firmware

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/disk"
	"github.com/otago-iot/otago/internal/disk/disktest"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
	"github.com/otago-iot/otago/store/storetest"
)

// TestRepositoryLosesWhatIsNotSynced simulates a power failure between any two steps while images
// are added and deleted. For each file and name the file system keeps or loses what was not synced.
// Every image that the store has must be there, byte for byte.
func TestRepositoryLosesWhatIsNotSynced(t *testing.T) {
	bodies := map[string][]byte{"1": []byte("the first image"), "2": []byte("the other image"), "3": bytes.Repeat([]byte("3"), 500)}
	dir := filepath.Join(disktest.MemoryDir(t), "data", "images")
	model := &disktest.Model{Root: filepath.Dir(filepath.Dir(dir))}
	memory0 := memory.New()
	// A moment is the content of the store from a step on.
	type moment struct {
		at     int
		images []Image
	}
	moments := []moment{{}}
	db := &storetest.Faulty{Store: memory0, After: func(ctx context.Context, _ storetest.Call) error {
		moments = append(moments, moment{model.Count(), slices.Collect(known(t, memory0))})
		return nil
	}}
	r, err := openRepository(dir, db, RepositoryConfig{}, disk.Files{Done: model.Made})
	require.NoError(t, err)
	add := func(name, version, body string) Image {
		img, err := r.Add(t.Context(), Image{Name: name, Version: version}, bytes.NewReader(bodies[body]))
		require.NoError(t, err)
		return img
	}
	one := add("a", "1", "1")
	twin := add("b", "1", "1")
	two := add("a", "2", "2")
	require.NoError(t, r.Delete(t.Context(), one.ID))
	require.NoError(t, os.Remove(r.path(two.SHA256))) // Add must repair it
	model.Made(disk.Step{Verb: "remove", Path: r.path(two.SHA256)})
	model.Made(disk.Step{Verb: "sync directory", Path: dir})
	lost := model.Count()
	add("a", "2", "2")
	healed := model.Count()
	add("a", "2", "2")
	require.NoError(t, r.Delete(t.Context(), twin.ID))
	add("a", "3", "3")
	add("a", "1", "1")
	_, err = r.Add(t.Context(), Image{Name: "a", Version: "1"}, bytes.NewReader(bodies["2"]))
	require.ErrorIs(t, err, store.ErrVersionTaken)

	checked, base := 0, disktest.MemoryDir(t)
	for n := range model.Count() + 1 {
		for _, state := range model.States(n, 200) {
			for i, m := range moments {
				if m.at > n || i+1 < len(moments) && moments[i+1].at < n {
					continue
				}
				checked++
				at := fmt.Sprintf("step %d:%s", n, state.Sizes())
				root := filepath.Join(base, fmt.Sprint(checked))
				require.NoError(t, os.Mkdir(root, 0o700))
				state.Write(t, root)
				missing := ""
				if n >= lost-1 && n < healed {
					missing = two.ID
				}
				checkRepository(t, filepath.Join(root, "data", "images"), m.images, bodies, missing, at)
				require.NoError(t, os.RemoveAll(root))
			}
		}
	}
	t.Logf("%d steps, %d states", model.Count(), checked)
}

// known yields the images in a store.
func known(t *testing.T, db store.Store) func(func(Image) bool) {
	return func(yield func(Image) bool) {
		for img, err := range db.Images(context.Background(), store.ImageQuery{}) {
			require.NoError(t, err)
			if !yield(img) {
				return
			}
		}
	}
}

// checkRepository opens a repository after a power failure, with a store of these images. One may
// be missing.
func checkRepository(t *testing.T, dir string, images []Image, bodies map[string][]byte, missing, at string) {
	ctx := context.Background()
	db := memory.New()
	for _, img := range images {
		_, err := db.Commit(ctx, store.CreateImage{Image: img})
		require.NoError(t, err)
	}
	r, err := openRepository(dir, db, RepositoryConfig{}, disk.Files{})
	require.NoError(t, err, at)
	look := func(img Image, missing bool) {
		p, err := r.Open(ctx, img.ID)
		if missing && err != nil {
			require.ErrorIs(t, err, ErrDamaged, at)
			return
		}
		require.NoError(t, err, "%s: image %s %s", at, img.Name, img.Version)
		got, err := io.ReadAll(io.NewSectionReader(p, 0, p.Size()))
		require.NoError(t, err, at)
		require.True(t, bytes.Equal(bodies[img.Version], got) || img.Name == "b" && bytes.Equal(bodies["1"], got), at)
		require.NoError(t, p.Close())
	}
	for _, img := range images {
		look(img, img.ID == missing)
	}
	for version, body := range bodies {
		img, err := r.Add(ctx, Image{Name: "a", Version: version}, bytes.NewReader(body))
		require.NoError(t, err, at)
		look(img, false)
	}
	for img := range known(t, db) {
		look(img, false)
	}
}
