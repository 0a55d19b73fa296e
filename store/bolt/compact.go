package bolt

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"go.etcd.io/bbolt"
)

// compactTx is about how many bytes one transaction of a compaction writes.
const compactTx = 4 << 20

// compact copies the records of an open file into a new one without free pages, gives that the name
// path, and closes the old one. A crash leaves the old file or the new one. If compact fails, the
// old file is as it was, and closed.
func compact(path string, old bboltFile) (err error) {
	closed := false
	closeOld := func() error {
		if closed {
			return nil
		}
		closed = true
		return old.DB.Close()
	}
	defer func() { err = errors.Join(err, closeOld()) }()
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return err
	}
	dir, name := filepath.Split(path)
	left, _ := filepath.Glob(filepath.Join(dir, "."+name+".*.compact")) // the pattern is right, unless name has brackets
	for _, file := range left {
		_ = os.Remove(file) // of a compaction that a crash ended: the lock of the old file is ours
	}
	f, err := os.CreateTemp(filepath.Clean(dir), "."+name+".*.compact")
	if err != nil {
		return err
	}
	temp := f.Name()
	defer func() { _ = os.Remove(temp) }() // after the rename there is none
	info, err := old.file.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Chmod(temp, info.Mode().Perm()); err != nil {
		return err
	}
	db, err := bbolt.Open(temp, mode, bboltOptions(0))
	if err != nil {
		return err
	}
	err = guard(func() error { return bbolt.Compact(db, old.DB, compactTx) })
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if runtime.GOOS == "windows" { // which renames no file over an open one
		if err := closeOld(); err != nil {
			return err
		}
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDirs(filepath.Clean(dir))
}
