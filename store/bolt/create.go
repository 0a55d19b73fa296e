package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bberrors "go.etcd.io/bbolt/errors"

	"github.com/otago-iot/otago/internal/disk"
	"github.com/otago-iot/otago/store"
)

// mode lets only the owner read the file: it has the addresses of devices, and hashes of tokens.
const mode = 0o600

// create makes a database under another name, and renames it to path when it is complete. If
// another process does the same and is first, its file stays.
func create(path string, config Config) (err error) {
	dir, name := filepath.Split(path)
	f, err := os.CreateTemp(filepath.Clean(dir), "."+name+".*.new")
	if err != nil {
		return err
	}
	temp := f.Name()
	defer func() {
		if removed := os.Remove(temp); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
		if err == nil {
			err = syncDirs(filepath.Clean(dir))
		}
	}()
	if err := f.Close(); err != nil {
		return err
	}
	db, err := bbolt.Open(temp, mode, bboltOptions(config.LockWait))
	if err != nil {
		return err
	}
	_, err = open(&backend{db: bboltFile{DB: db}, namespace: config.namespace()})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	return giveName(temp, path)
}

// syncDirs makes the names in a directory durable, and also the names of the directory and those
// above it, which may be new too. It ignores directories above that it may not open.
func syncDirs(dir string) error {
	err := disk.SyncDir(dir)
	for above := filepath.Dir(dir); above != dir; dir, above = above, filepath.Dir(above) {
		_ = disk.SyncDir(above)
	}
	return err
}

// giveName renames temp to path, unless there is a file at path.
func giveName(temp, path string) error {
	err := os.Link(temp, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	// The file system has no links. Between this check and the rename another process may make the
	// file.
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(temp, path)
}

func bboltOptions(wait time.Duration) *bbolt.Options {
	return &bbolt.Options{
		Timeout:      max(wait, time.Millisecond), // 0 would mean without end
		FreelistType: bbolt.FreelistMapType,
	}
}

// allocSize is by how much the file grows, in bytes.
const allocSize = 1 << 20

// A bboltFile is a bbolt database and its file.
type bboltFile struct {
	*bbolt.DB
	file *os.File
}

// close writes the list of free pages, which commits leave out, since they would write all of it.
// After a crash, Open makes the list by looking at every page.
func (f bboltFile) close() error {
	f.NoFreelistSync = false
	_ = f.Update(func(*bbolt.Tx) error { return nil }) // without the list the file is complete too
	return f.Close()
}

// openFile opens an existing database, and checks that it is complete before bbolt maps it. If
// another process has replaced the file while this one waited for its lock, it opens the new file.
func openFile(path string, wait time.Duration) (bboltFile, error) {
	for {
		f, err := openLocked(path, wait)
		if err != nil {
			return f, err
		}
		have, err := f.file.Stat()
		var now os.FileInfo
		if err == nil {
			now, err = os.Stat(path)
		}
		if err == nil && os.SameFile(have, now) {
			return f, nil
		}
		if err = errors.Join(err, f.DB.Close()); err != nil {
			return bboltFile{}, err
		}
	}
}

func openLocked(path string, wait time.Duration) (bboltFile, error) {
	var opened bboltFile
	var stop func()
	o := bboltOptions(wait)
	o.NoFreelistSync = true // see close
	o.OpenFile = func(name string, flag int, _ fs.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag&^os.O_CREATE, 0)
		if err != nil {
			return nil, err
		}
		if err := checkTwice(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		opened.file = f
		stop = readAhead(f)
		return f, nil
	}
	err := guard(func() (err error) {
		defer func() {
			if stop != nil {
				stop()
			}
		}()
		opened.DB, err = bbolt.Open(path, mode, o)
		return err
	})
	if errors.Is(err, ErrDamaged) && opened.file != nil {
		_ = disk.CloseLocked(opened.file) // bbolt could not close it
	}
	if err == nil {
		opened.AllocSize = allocSize
	}
	return opened, err
}

// readAhead reads a file that has no list of free pages from its beginning to its end, until the
// returned function is called. bbolt is about to look at every page, in no order, and has asked the
// system not to read ahead: each page that is not in memory would be a read of its own.
func readAhead(f *os.File) (stop func()) {
	if complete, err := hasFreelist(f); complete || err != nil {
		return func() {}
	}
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<20)
		for at := int64(0); ; at += int64(len(b)) {
			select {
			case <-stopped:
				return
			default:
			}
			if _, err := f.ReadAt(b, at); err != nil { // the end, as a rule; bbolt reports others
				return
			}
		}
	}()
	return func() {
		close(stopped)
		<-done
	}
}

// explain returns an error that says what is wrong with a file, and what to do.
func explain(path string, err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok && filepath.Dir(p.Path) == filepath.Dir(path) && p.Error() == err.Error() {
		err = p.Err // the path is said already; that of the new file, beside it, says no more
	}
	switch {
	case errors.Is(err, bberrors.ErrTimeout):
		return fmt.Errorf("%w: %s", ErrLocked, path)
	case errors.Is(err, ErrDamaged):
		return fmt.Errorf("bolt: open %s: %w; it was not changed: restore a copy of it, or give another path", path, err)
	case disk.Full(err):
		return fmt.Errorf("%w: open %s: %w", store.ErrNoSpace, path, err)
	}
	return fmt.Errorf("bolt: open %s: %w", path, err)
}
