package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
		db, err := bolt.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
}

func TestStore(t *testing.T) {
	opts := []storetest.Option{storetest.Durable(place)}
	for name, way := range kvtest.Ways {
		opts = append(opts, storetest.Damage(name, func(t testing.TB) (store.Store, func(store.Kind, string)) {
			file, err := bbolt.Open(filepath.Join(t.TempDir(), "ota.db"), 0o600, &bbolt.Options{NoSync: true}) // nothing crashes here
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { file.Close() })
			db, err := bolt.New(file)
			if err != nil {
				t.Fatal(err)
			}
			return db, func(kind store.Kind, key string) {
				if err := kvtest.Spoil(bolt.BackendOf(file), kind, key, way); err != nil {
					t.Fatal(err)
				}
			}
		}))
	}
	storetest.Run(t, fresh, opts...)
}

func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, fresh) }

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ota.db")
	db, err := bolt.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bolt.Open(path, bolt.LockWait(10*time.Millisecond)); !errors.Is(err, bolt.ErrLocked) {
		t.Fatalf("second Open = %v, want ErrLocked", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, err = bolt.Open(path)
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
		db, err := bolt.New(file, bolt.Namespace(name))
		if err != nil {
			t.Fatal(err)
		}
		spaces[name] = db
		if _, err := db.Commit(t.Context(), store.PutFirmware{Endpoint: name}); err != nil {
			t.Fatal(err)
		}
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
	if _, err := bolt.New(file, bolt.Namespace("")); err == nil {
		t.Error("an empty namespace was taken")
	}
	if err := file.View(func(*bbolt.Tx) error { return nil }); err != nil {
		t.Errorf("closing the stores closed the caller's file: %v", err)
	}
}

// TestOtherFormat opens files that other versions wrote.
func TestOtherFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ota.db")
	file, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bolt.New(file); err != nil {
		t.Fatal(err)
	}
	for _, format := range [][]byte{{1}, {3}, {200}, []byte("otago")} {
		err = file.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(bolt.DefaultNamespace)).Bucket([]byte("meta")).Put([]byte("format"), format)
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bolt.New(file); err == nil || !strings.Contains(err.Error(), "format") {
			t.Fatalf("data of the format %x: %v", format, err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
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
		db, err := bolt.Open(path)
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

// TestFileWithoutMarks opens a file of a version that kept only in its record that a device is Secured, and then damages that.
func TestFileWithoutMarks(t *testing.T) {
	file, err := bbolt.Open(filepath.Join(t.TempDir(), "ota.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	db, err := bolt.New(file)
	if err != nil {
		t.Fatal(err)
	}
	for endpoint, secured := range map[string]bool{"open": false, "secured": true} {
		_, err = db.Commit(t.Context(), store.PutRegistration{Endpoint: endpoint, Registration: store.RegistrationRecord{Secured: secured}})
		if err != nil {
			t.Fatal(err)
		}
	}
	err = file.Update(func(tx *bbolt.Tx) error {
		space := tx.Bucket([]byte(bolt.DefaultNamespace))
		return errors.Join(space.DeleteBucket([]byte("secured")), space.Bucket([]byte("meta")).Delete([]byte("secured")))
	})
	if err != nil {
		t.Fatal(err)
	}
	if db, err = bolt.New(file); err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range []string{"open", "secured"} {
		if err := kvtest.Spoil(bolt.BackendOf(file), store.KindDevice, endpoint, kvtest.Ways["garbage"]); err != nil {
			t.Fatal(err)
		}
	}
	for d, err := range db.Devices(t.Context(), store.DeviceQuery{}) {
		if !errors.Is(err, store.ErrDamaged) || d.Registration.Secured != (d.Endpoint == "secured") {
			t.Errorf("%+v, %v", d, err)
		}
	}
}
