//go:build unix

package bolt_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
)

// limitFiles limits the size of all files of this process, in place of a full disk where the test
// may not mount one. Below 0 there is no limit. It is for tests that run alone.
func limitFiles(t *testing.T, size int) {
	t.Helper()
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &limit))
	if limit.Cur = limit.Max; size >= 0 {
		limit.Cur = uint64(size)
		signal.Ignore(unix.SIGXFSZ)
	}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
}

// aloneEnv is set when this binary runs again for one test.
const aloneEnv = "OTAGO_TEST_BOLT_ALONE"

// alone runs the test in a process of its own, and reports whether this process is that one.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneEnv) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), aloneEnv+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NotContains(t, string(out), "no tests to run")
	return false
}

// TestMadeOnFullDisk makes a database with too little space, by each number of pages: nothing is
// left of it, and it can be made when there is space.
func TestMadeOnFullDisk(t *testing.T) {
	if !alone(t) {
		return
	}
	page := os.Getpagesize()
	for room := 0; ; room += page / 2 {
		dir := t.TempDir()
		path := filepath.Join(dir, "ota.db")
		limitFiles(t, room)
		db, err := bolt.Open(path, bolt.Config{})
		limitFiles(t, -1)
		if err == nil {
			require.NoError(t, db.Close())
			require.Greater(t, room, 4*page)
			return
		}
		require.ErrorIs(t, err, store.ErrNoSpace, "%d bytes", room)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries, "%d bytes", room)
		db, err = bolt.Open(path, bolt.Config{})
		require.NoError(t, err)
		require.NoError(t, db.Close())
	}
}

// fill commits until the disk is full, and returns how many commits there were.
func fill(t *testing.T, db store.Store, from int) int {
	t.Helper()
	for n := from; ; n++ {
		_, err := db.Commit(t.Context(), put(n))
		if err != nil {
			require.ErrorIs(t, err, store.ErrNoSpace)
			return n
		}
		require.Less(t, n, from+10_000, "it is never full")
	}
}

func put(n int) store.Change {
	return store.PutRegistration{Endpoint: fmt.Sprint("ep", n), Registration: store.RegistrationRecord{Links: strings.Repeat("</3/0>,", 2000)}}
}

// worksOn checks a database that met a full disk, and then has space again.
func worksOn(t *testing.T, db *bolt.Store, path string, n int) {
	t.Helper()
	_, err := db.Commit(t.Context(), put(n), put(n+1))
	require.NoError(t, err)
	require.NoError(t, db.Report(t.Context()).Err)
	have, err := all(t, db)
	require.NoError(t, err)
	require.Equal(t, n+2, have)
	require.NoError(t, bolt.FileOf(db).View(func(tx *bbolt.Tx) error {
		var found error
		for err := range tx.Check() {
			found = errors.Join(found, err)
		}
		return found
	}))
	require.NoError(t, db.Close())
	db, err = bolt.Open(path, bolt.Config{})
	require.NoError(t, err)
	have, err = all(t, db)
	require.NoError(t, err)
	require.Equal(t, n+2, have)
	require.NoError(t, db.Close())
}

// TestGrowsOnFullDisk fills the disk several times while the file grows: no commit is lost, all
// records can be read, and commits work again when there is space.
func TestGrowsOnFullDisk(t *testing.T) {
	if !alone(t) {
		return
	}
	path := filepath.Join(t.TempDir(), "ota.db")
	db, err := bolt.Open(path, bolt.Config{})
	require.NoError(t, err)
	n := 0
	for _, room := range []int{200_000, 300_000, 1_000_000, 3_000_000} {
		limitFiles(t, room)
		n = fill(t, db, n)
		for range 3 {
			n = fill(t, db, n) // pages that a commit freed may take more commits
		}
		have, err := all(t, db)
		require.NoError(t, err)
		require.Equal(t, n, have)
	}
	limitFiles(t, -1)
	worksOn(t, db, path, n)
}

// TestReallyFull is the same on a file system of its own, where a file may be longer than the space
// that is left.
func TestReallyFull(t *testing.T) {
	dir := t.TempDir()
	if err := mountTmpfs(dir, "1m"); err != nil {
		t.Skip("no tmpfs can be mounted here:", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
	ballast := filepath.Join(dir, "ballast")
	path := filepath.Join(dir, "ota.db")
	for room := range 20 {
		fillTmpfs(t, ballast, room*2048)
		db, err := bolt.Open(path, bolt.Config{})
		if err == nil {
			require.NoError(t, db.Close())
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Remove(ballast))
			continue
		}
		require.ErrorIs(t, err, store.ErrNoSpace, "room for %d KiB", 2*room)
		require.NoFileExists(t, path)
		require.NoError(t, os.Remove(ballast))
	}
	db, err := bolt.Open(path, bolt.Config{})
	require.NoError(t, err)
	n := 0
	for _, room := range []int{300_000, 200_000, 100_000, 0} {
		fillTmpfs(t, ballast, room)
		n = fill(t, db, n)
		n = fill(t, db, n)
		report := db.Report(t.Context())
		require.ErrorIs(t, report.Err, store.ErrNoSpace)
		require.False(t, report.FailingSince.IsZero())
		require.Equal(t, "bolt", report.Kind)
		require.Positive(t, report.Bytes)
		have, err := all(t, db)
		require.NoError(t, err)
		require.Equal(t, n, have)
		if room > 0 {
			require.NoError(t, os.Remove(ballast))
		}
	}
	require.NoError(t, os.Remove(ballast))
	worksOn(t, db, path, n)
}

// fillTmpfs leaves room bytes free.
func fillTmpfs(t *testing.T, path string, room int) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	block := make([]byte, 4096)
	size := int64(0)
	for {
		n, err := f.Write(block)
		size += int64(n)
		if err != nil {
			require.ErrorIs(t, err, unix.ENOSPC)
			break
		}
	}
	require.NoError(t, f.Truncate(max(size-int64(room), 0)))
	require.NoError(t, f.Close())
}

// TestMappedAgain makes the system refuse to map the file when it has grown; bbolt then never uses
// the file again.
func TestMappedAgain(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("how to have a mapping refused is known for Linux")
	}
	path := filepath.Join(t.TempDir(), "ota.db")
	db, err := bolt.Open(path, bolt.Config{})
	require.NoError(t, err)
	n := 0
	for round := range 3 {
		bolt.FileOf(db).MmapFlags = refusedMmapFlag
		for err = nil; err == nil; n++ {
			_, err = db.Commit(t.Context(), put(n))
			require.Less(t, n, 1000)
		}
		n--
		if round == 2 { // opening fails for some time too
			require.NoError(t, os.Rename(path, path+".away"))
			_, err = all(t, db)
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.NoError(t, os.Rename(path+".away", path))
		}
		have, err := all(t, db)
		require.NoError(t, err)
		require.Equal(t, n, have)
	}
	worksOn(t, db, path, n)
}

// TestOpenNoFile opens a path that exists but is no file: Open neither waits nor makes a file
// elsewhere.
func TestOpenNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	_, err := bolt.Open(fifo, bolt.Config{})
	require.ErrorIs(t, err, bolt.ErrDamaged)
	require.NoError(t, os.Symlink(filepath.Join(dir, "away"), link))
	_, err = bolt.Open(link, bolt.Config{})
	require.ErrorIs(t, err, fs.ErrNotExist, "a disk that is not mounted, for example")
	require.Equal(t, 1, strings.Count(err.Error(), link), err)
	_, err = bolt.Open(dir, bolt.Config{})
	require.Error(t, err)
	require.Equal(t, 1, strings.Count(err.Error(), dir), err)
	missing := filepath.Join(dir, "missing", "ota.db")
	_, err = bolt.Open(missing, bolt.Config{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, 1, strings.Count(err.Error(), filepath.Dir(missing)), err)
	require.NoFileExists(t, filepath.Join(dir, "away"))

	// A link to a database works like the database.
	db, err := bolt.Open(filepath.Join(dir, "away"), bolt.Config{})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	db, err = bolt.Open(link, bolt.Config{})
	require.NoError(t, err)
	require.NoError(t, db.Close())
}
