package bolt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
)

// filled makes a database with the given number of devices, and returns its bytes and page size.
func filled(t *testing.T, devices int) (data []byte, page int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ota.db")
	db, err := bolt.Open(path, bolt.Config{})
	require.NoError(t, err)
	var changes []store.Change
	for n := range devices {
		changes = append(changes, store.PutRegistration{
			Endpoint: fmt.Sprint("ep", n), Registration: store.RegistrationRecord{Links: strings.Repeat("</3/0>,", 100)},
		})
	}
	_, err = db.Commit(t.Context(), changes...)
	require.NoError(t, err)
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep0"})
	require.NoError(t, err)
	page = bolt.FileOf(db).Info().PageSize
	require.NoError(t, db.Close())
	data, err = os.ReadFile(path)
	require.NoError(t, err)
	return data, page
}

// all reads every device.
func all(t *testing.T, db store.Store) (devices int, err error) {
	t.Helper()
	for _, err := range db.Devices(t.Context(), store.DeviceQuery{}) {
		if err != nil {
			return devices, err
		}
		devices++
	}
	return devices, nil
}

// TestCut opens a database that was cut, at each page and around it: Open refuses it, or all of it
// is there.
func TestCut(t *testing.T) {
	const devices = 100
	data, page := filled(t, devices)
	path := filepath.Join(t.TempDir(), "ota.db")
	refused, taken := 0, 0
	cut := func(size int) {
		require.NoError(t, os.WriteFile(path, data[:size], 0o600))
		db, err := bolt.Open(path, bolt.Config{})
		if err != nil {
			refused++
			require.ErrorIs(t, err, bolt.ErrDamaged, "%d bytes", size)
			require.NotErrorIs(t, err, store.ErrDamaged, "that is about one record")
			require.ErrorContains(t, err, path)
			require.ErrorContains(t, err, "restore")
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data[:size], got), "%d bytes: it was changed", size)
			return
		}
		taken++
		n, err := all(t, db)
		require.NoError(t, err, "%d bytes", size)
		require.Equal(t, devices, n, "%d bytes", size)
		_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "new"})
		require.NoError(t, err, "%d bytes", size)
		require.NoError(t, db.Close())
	}
	for at := 0; at <= len(data); at += page {
		for _, size := range []int{at - 1, at, at + 1, at + 17, at + page/2} {
			if size >= 0 && size <= len(data) {
				cut(size)
			}
		}
	}
	require.NotZero(t, taken)
	require.Greater(t, refused, 50)
	t.Logf("%d bytes: refused %d, taken %d", len(data), refused, taken)
}

// TestPageLost replaces one page after the other by zeros, as file systems leave them, or by
// another page: calls that need the page return an error, and others work.
func TestPageLost(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows lets no program write a file that is mapped, as it stays after bbolt was stopped")
	}
	data, page := filled(t, 30)
	path := filepath.Join(t.TempDir(), "ota.db")
	harmless := 0
	for at := 0; at < len(data); at += page {
		for name, lost := range map[string][]byte{
			"zero": make([]byte, page), "the one before": data[max(at-page, 0):][:page], "ones": bytes.Repeat([]byte{0xFF}, page),
		} {
			spoilt := bytes.Clone(data)
			copy(spoilt[at:], lost)
			require.NoError(t, os.WriteFile(path, spoilt, 0o600))
			db, err := bolt.Open(path, bolt.Config{})
			if err != nil {
				require.ErrorIs(t, err, bolt.ErrDamaged, "page %d is %s", at/page, name)
				continue
			}
			n, err := all(t, db)
			if err == nil && n == 30 {
				harmless++
			} else if err != nil && !errors.Is(err, store.ErrDamaged) { // a lost page in the middle of a long record damages only that record
				require.ErrorIs(t, err, bolt.ErrDamaged, "page %d is %s", at/page, name)
			}
			for n := range 5 {
				_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: fmt.Sprint("new", n)}, store.PutHolds{Endpoint: "ep1"})
				if err != nil {
					require.ErrorIs(t, err, bolt.ErrDamaged, "page %d is %s", at/page, name)
				}
			}
			require.NoError(t, db.Close())
		}
	}
	require.NotZero(t, harmless, "a free page, or one meta page of two")
}

// TestCutWhileOpen cuts the file while the process has it open.
func TestCutWhileOpen(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not cut a file that is mapped")
	}
	data, page := filled(t, 100)
	path := filepath.Join(t.TempDir(), "ota.db")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	db, err := bolt.Open(path, bolt.Config{})
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, int64(2*page)))
	_, err = all(t, db)
	require.ErrorIs(t, err, bolt.ErrDamaged)
	for range 2 {
		_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "new"})
		require.ErrorIs(t, err, bolt.ErrDamaged)
	}
	require.NoError(t, db.Close())
	_, err = bolt.Open(path, bolt.Config{})
	require.ErrorIs(t, err, bolt.ErrDamaged)
}

// TestFreePages damages the list of free pages, to which the next commit would write.
func TestFreePages(t *testing.T) {
	data, page := filled(t, 100)
	id := binary.NativeEndian.Uint64(data[newest(data, page)*page+16+32:])
	list := data[int(id)*page:]
	require.Equal(t, uint16(16), binary.NativeEndian.Uint16(list[8:]), "the list of free pages")
	require.NotZero(t, binary.NativeEndian.Uint16(list[10:]))
	path := filepath.Join(t.TempDir(), "ota.db")
	for name, spoil := range map[string]func(list []byte){
		"a meta page": func(list []byte) { binary.NativeEndian.PutUint64(list[16:], 1) },
		"beyond":      func(list []byte) { binary.NativeEndian.PutUint64(list[16:], uint64(len(data)/page)) },
		"longer":      func(list []byte) { binary.NativeEndian.PutUint16(list[10:], uint16(page/8)) },
		"much longer": func(list []byte) {
			binary.NativeEndian.PutUint16(list[10:], 0xFFFF)
			binary.NativeEndian.PutUint64(list[16:], 1<<62)
		},
		"more pages":   func(list []byte) { binary.NativeEndian.PutUint32(list[12:], 1<<30) },
		"another page": func(list []byte) { binary.NativeEndian.PutUint64(list, id+1) },
	} {
		spoilt := bytes.Clone(data)
		spoil(spoilt[int(id)*page:])
		require.NoError(t, os.WriteFile(path, spoilt, 0o600))
		_, err := bolt.Open(path, bolt.Config{})
		require.ErrorIs(t, err, bolt.ErrDamaged, name)
	}
}

// newest returns which meta page has the higher transaction number.
func newest(data []byte, page int) int {
	if binary.NativeEndian.Uint64(data[page+16+48:]) > binary.NativeEndian.Uint64(data[16+48:]) {
		return 1
	}
	return 0
}

// TestHalfMeta leaves the meta page of the last commit incomplete: the commit before counts, as
// after a power failure.
func TestHalfMeta(t *testing.T) {
	data, page := filled(t, 10)
	path := filepath.Join(t.TempDir(), "ota.db")
	for meta := range 2 {
		spoilt := bytes.Clone(data)
		clear(spoilt[meta*page+40 : meta*page+60])
		require.NoError(t, os.WriteFile(path, spoilt, 0o600))
		db, err := bolt.Open(path, bolt.Config{})
		require.NoError(t, err)
		n, err := all(t, db)
		require.NoError(t, err)
		require.Equal(t, 10, n)
		require.NoError(t, db.Close())
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	data, page := filled(t, 1)
	other := bytes.Clone(data)
	for _, meta := range []int{0, page} {
		binary.NativeEndian.PutUint32(other[meta+16+4:], 3)
	}
	for name, content := range map[string][]byte{
		"text": bytes.Repeat([]byte("no database\n"), 2000), "empty": nil, "a byte": {1}, "zeros": make([]byte, 64<<10),
		"SQLite": append([]byte("SQLite format 3\x00"), make([]byte, 8192)...), "version": other,
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		_, err := bolt.Open(path, bolt.Config{})
		require.ErrorIs(t, err, bolt.ErrDamaged, name)
		if name == "version" {
			require.ErrorContains(t, err, "format 3")
		}
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got), "%s: it was changed", name)
	}
	for _, path := range []string{dir, filepath.Join(dir, "no such folder", "ota.db"), filepath.Join(dir, "text", "ota.db")} {
		_, err := bolt.Open(path, bolt.Config{})
		require.Error(t, err, path)
		require.NotErrorIs(t, err, bolt.ErrLocked)
		require.ErrorContains(t, err, path)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 6, "something is left")
}

// TestMode: only its owner can read a database, whatever the umask is.
func TestMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	path := filepath.Join(t.TempDir(), "ota.db")
	db, err := bolt.Open(path, bolt.Config{})
	require.NoError(t, err)
	defer db.Close()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
}

// TestOpenAtOnce opens a missing database several times at once: all share one, and no other file
// is left.
func TestOpenAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ota.db")
	const openers = 6
	failed := make(chan error, openers)
	for n := range openers {
		go func() {
			db, err := bolt.Open(path, bolt.Config{LockWait: time.Minute})
			if err == nil {
				_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: fmt.Sprint(n)})
				err = errors.Join(err, db.Close())
			}
			failed <- err
		}()
	}
	for range openers {
		require.NoError(t, <-failed)
	}
	db, err := bolt.Open(path, bolt.Config{})
	require.NoError(t, err)
	defer db.Close()
	n, err := all(t, db)
	require.NoError(t, err)
	require.Equal(t, openers, n)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "something is left")
}

// TestLockWaits: the wait for a lock ends after LockWait.
func TestLockWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ota.db")
	file, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	defer file.Close()
	for _, wait := range []time.Duration{-1, 0, 300 * time.Millisecond} {
		began := time.Now()
		_, err := bolt.Open(path, bolt.Config{LockWait: wait})
		require.ErrorIs(t, err, bolt.ErrLocked)
		require.Less(t, time.Since(began), wait+5*time.Second)
	}
}
