package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
	"github.com/otago-iot/otago/store/internal/kv/kvtest"
	"github.com/otago-iot/otago/store/storetest"
)

func fresh(t testing.TB) store.Store { return place(t)() }

func place(t testing.TB) func() store.Store {
	path := filepath.Join(t.TempDir(), "ota.db")
	return func() store.Store {
		db, err := bolt.Open(path, bolt.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
}

func TestStore(t *testing.T) {
	config := storetest.Config{Durable: place, Damage: map[string]func(testing.TB) (store.Store, func(store.Kind, string)){}}
	for name, way := range kvtest.Ways {
		config.Damage[name] = func(t testing.TB) (store.Store, func(store.Kind, string)) {
			file, err := bbolt.Open(filepath.Join(t.TempDir(), "ota.db"), 0o600, &bbolt.Options{NoSync: true}) // nothing crashes here
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { file.Close() })
			db, err := bolt.New(file, bolt.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return db, func(kind store.Kind, key string) {
				if err := kvtest.Spoil(bolt.BackendOf(db), kind, key, way); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	storetest.Run(t, fresh, config)
}

func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, fresh) }

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ota.db")
	db, err := bolt.Open(path, bolt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bolt.Open(path, bolt.Config{LockWait: 10 * time.Millisecond}); !errors.Is(err, bolt.ErrLocked) {
		t.Fatalf("second Open = %v, want ErrLocked", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, err = bolt.Open(path, bolt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNamespaces(t *testing.T) {
	file, err := bbolt.Open(filepath.Join(t.TempDir(), "shared.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	spaces := map[string]*bolt.Store{}
	for _, name := range []string{bolt.DefaultNamespace, "a", "a/b"} {
		db, err := bolt.New(file, bolt.Config{Namespace: name})
		if err != nil {
			t.Fatal(err)
		}
		spaces[name] = db
		if _, err := db.Commit(t.Context(), store.PutFirmware{Endpoint: name}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := bolt.New(file, bolt.Config{Namespace: "a"}); !errors.Is(err, bolt.ErrLocked) {
		t.Errorf("a second store of a namespace: %v", err)
	}
	for name, db := range spaces {
		for d, err := range db.Devices(t.Context(), store.DeviceQuery{}) {
			if err != nil || d.Endpoint != name {
				t.Errorf("namespace %q has device %q, %v", name, d.Endpoint, err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if db, err := bolt.New(file, bolt.Config{Namespace: "a"}); err != nil {
		t.Error(err)
	} else if _, err := db.Device(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if err := file.View(func(*bbolt.Tx) error { return nil }); err != nil {
		t.Errorf("closing the stores closed the caller's file: %v", err)
	}
}

// TestOtherFormat opens files of other versions, and of another program. Open refuses each with
// advice, and does not change it.
func TestOtherFormat(t *testing.T) {
	format := func(value string) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			space, err := tx.CreateBucket([]byte(bolt.DefaultNamespace))
			if err != nil {
				return err
			}
			meta, err := space.CreateBucket([]byte("meta"))
			if err != nil {
				return err
			}
			return meta.Put([]byte("format"), []byte(value))
		}
	}
	for name, tc := range map[string]struct {
		write func(*bbolt.Tx) error
		want  error
		words string
	}{
		"older":    {format("\x01"), store.ErrFormat, "has format 1, this version reads only format 6; use the older version"},
		"newer":    {format("\x07"), store.ErrFormat, "has format 7, this version reads only format 6; use the newer version"},
		"no store": {format("otago"), store.ErrFormat, "restore a copy"},
		"another program's": {func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte("widgets"))
			return err
		}, bolt.ErrDamaged, "another program made it; it was not changed: restore a copy of it, or give another path"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ota.db")
			file, err := bbolt.Open(path, 0o600, nil)
			require.NoError(t, err)
			require.NoError(t, file.Update(tc.write))
			if tc.want == store.ErrFormat {
				_, err = bolt.New(file, bolt.Config{})
				require.ErrorIs(t, err, tc.want)
			}
			require.NoError(t, file.Close())
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			_, err = bolt.Open(path, bolt.Config{})
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.words)
			require.ErrorContains(t, err, path)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(before, after), "the file was changed")
		})
	}
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "otago")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	path := filepath.Join(dir, "ota.db")
	for range 2 {
		db, err := bolt.Open(path, bolt.Config{})
		if err != nil {
			fmt.Println(err)
			return
		}
		_, err = db.Commit(ctx, store.CreateImage{Image: store.Image{ID: "1", Name: "sensor", Version: "1.1.0"}})
		fmt.Println(err)
		if err := db.Close(); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// <nil>
	// store: id exists already
}

// TestReadAhead: only after a crash does Open have to look at every page, and so reads the file.
func TestReadAhead(t *testing.T) {
	path, crashed := filepath.Join(t.TempDir(), "ota.db"), filepath.Join(t.TempDir(), "crashed.db")
	db, err := bolt.Open(path, bolt.Config{})
	require.NoError(t, err)
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep"})
	require.NoError(t, err)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(crashed, data, 0o600))
	require.NoError(t, db.Close())
	for path, want := range map[string]bool{path: true, crashed: false} {
		f, err := os.Open(path)
		require.NoError(t, err)
		has, err := bolt.HasFreelist(f)
		require.NoError(t, err)
		require.Equal(t, want, has)
		bolt.ReadAhead(f)()
		require.NoError(t, f.Close(), "nothing reads it any more")
	}
	db, err = bolt.Open(crashed, bolt.Config{})
	require.NoError(t, err)
	_, err = db.Device(t.Context(), "ep")
	require.NoError(t, err)
	require.NoError(t, db.Close())
}
