package bolt_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
)

// TestCompact opens a file from which most records were deleted: it gets smaller, and loses
// nothing.
func TestCompact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ota.db")
	db, err := bolt.Open(path, bolt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	const n = 2000
	put := func(i int) store.Change {
		return store.PutRegistration{Endpoint: fmt.Sprint("ep", i), Registration: store.RegistrationRecord{Links: strings.Repeat("x", 5000)}}
	}
	var changes, deletes []store.Change
	for i := range n {
		changes = append(changes, put(i))
		if i%100 != 0 {
			deletes = append(deletes, store.DeleteDevice{Endpoint: fmt.Sprint("ep", i)})
		}
	}
	for _, c := range [][]store.Change{changes, deletes} {
		if _, err := db.Commit(t.Context(), c...); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(filepath.Dir(path), ".ota.db.17.compact")
	if err := os.WriteFile(left, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(path)
	if db, err = bolt.Open(path, bolt.Config{Compact: true}); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	after, err := os.Stat(path)
	if err != nil || after.Size() > before.Size()/5 {
		t.Errorf("%d bytes, before %d, %v", after.Size(), before.Size(), err)
	}
	if runtime.GOOS != "windows" && after.Mode() != before.Mode() {
		t.Errorf("mode %v, before %v", after.Mode(), before.Mode())
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("%d files are left", len(files))
	}
	count := 0
	for d, err := range db.Devices(t.Context(), store.DeviceQuery{}) {
		if err != nil || len(d.Registration.Links) != 5000 {
			t.Fatal(d.Endpoint, err)
		}
		count++
	}
	if count != n/100 {
		t.Errorf("%d devices, want %d", count, n/100)
	}
	if _, err := db.Commit(t.Context(), put(n)); err != nil {
		t.Error(err)
	}
	// The new file is locked as the old one was.
	if _, err := bolt.Open(path, bolt.Config{LockWait: time.Millisecond}); !errors.Is(err, bolt.ErrLocked) {
		t.Errorf("a second Open: %v", err)
	}
}

// TestCompactWhileOthersWait: one who waits for the lock of the old file gets the new one.
func TestCompactWhileOthersWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ota.db")
	db, err := bolt.Open(path, bolt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	type opened struct {
		db  *bolt.Store
		err error
	}
	results := make(chan opened)
	const n = 8
	for range n {
		go func() {
			db, err := bolt.Open(path, bolt.Config{LockWait: time.Minute, Compact: true})
			results <- opened{db, err}
		}()
	}
	time.Sleep(100 * time.Millisecond)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		o := <-results
		if o.err != nil {
			t.Fatal(o.err)
		}
		put := store.PutRegistration{Endpoint: fmt.Sprint("ep", i), Registration: store.RegistrationRecord{ID: "r"}}
		if _, err := o.db.Commit(t.Context(), put); err != nil {
			t.Fatal(err)
		}
		count := 0
		for range o.db.Devices(t.Context(), store.DeviceQuery{}) {
			count++
		}
		if count != i+1 {
			t.Fatalf("opener %d sees %d devices: it has another file", i, count)
		}
		if err := o.db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
