// Package disk writes files that survive a power failure, and recognizes a full disk.
package disk

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Files changes files so that each change is durable when it returns. The zero value is ready to
// use.
type Files struct {
	// Hook is called before each step of a change. Its error stops the change there, as a power
	// failure would.
	Hook func(op string) error
	// Done is called after each step.
	Done func(Step)
}

// A Step is one step of a change.
type Step struct {
	Verb string // create, mkdir, write, truncate, sync, rename, remove, sync directory
	Path string
	To   string // of rename
	At   int64  // of write, and the size of truncate
	Data []byte // of write
}

// Op calls Hook before a step that Files does not make itself.
func (d Files) Op(name string) error {
	if d.Hook == nil {
		return nil
	}
	return d.Hook(name)
}

// Made calls Done after a step that Files does not make itself.
func (d Files) Made(step Step) {
	if d.Done != nil {
		d.Done(step)
	}
}

// Replace replaces the content of a file, durably: a reader, also after a power failure, finds the
// old content or the new one.
func (d Files) Replace(path string, data []byte) error {
	temporary := path + ".new"
	if err := d.Op("create " + path); err != nil {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	d.Made(Step{Verb: "create", Path: temporary})
	d.Made(Step{Verb: "truncate", Path: temporary})
	_, err = d.Write(f, data)
	if err == nil {
		err = d.Sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		if os.Remove(temporary) == nil { // frees space on a full disk
			d.Made(Step{Verb: "remove", Path: temporary})
		}
		return err
	}
	return d.Rename(temporary, path)
}

// Rename renames a file within its directory, durably.
func (d Files) Rename(from, to string) error {
	if err := d.Op("rename " + to); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	d.Made(Step{Verb: "rename", Path: from, To: to})
	return d.SyncDir(filepath.Dir(to))
}

// CreateTemp creates a file like os.CreateTemp. Its name is durable after SyncDir.
func (d Files) CreateTemp(dir, pattern string) (*os.File, error) {
	if err := d.Op("create " + filepath.Join(dir, pattern)); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, pattern)
	if err == nil {
		d.Made(Step{Verb: "create", Path: f.Name()})
	}
	return f, err
}

// MkdirAll creates a directory and its missing parents, durably. Only their owner can read them.
func (d Files) MkdirAll(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	dir = filepath.Clean(dir)
	above := filepath.Dir(dir)
	if above != dir {
		if err := d.MkdirAll(above); err != nil {
			return err
		}
	}
	if err := d.Op("mkdir " + dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		if info, statErr := os.Stat(dir); statErr != nil || !info.IsDir() { // another goroutine may have made it
			return err
		}
	}
	d.Made(Step{Verb: "mkdir", Path: dir})
	err := d.SyncDir(above)
	if err != nil {
		os.Remove(dir) // so that the next call creates and syncs it
	}
	return err
}

// Write writes to a file. The bytes are durable after Sync.
func (d Files) Write(f *os.File, p []byte) (int, error) {
	if err := d.Op("write"); err != nil {
		return 0, err
	}
	n, err := f.Write(p)
	if d.Done != nil && n > 0 {
		end, _ := f.Seek(0, io.SeekCurrent)
		d.Made(Step{Verb: "write", Path: f.Name(), At: end - int64(n), Data: bytes.Clone(p[:n])})
	}
	return n, err
}

// Sync makes the content of a file durable.
func (d Files) Sync(f *os.File) error {
	if err := d.Op("sync " + f.Name()); err != nil {
		return err
	}
	err := f.Sync()
	if err == nil {
		d.Made(Step{Verb: "sync", Path: f.Name()})
	}
	return err
}

// Truncate changes the size of a file. The change is durable after Sync.
func (d Files) Truncate(f *os.File, size int64) error {
	if err := d.Op("truncate " + f.Name()); err != nil {
		return err
	}
	err := f.Truncate(size)
	if err == nil {
		d.Made(Step{Verb: "truncate", Path: f.Name(), At: size})
	}
	return err
}

// Remove removes a file, if it exists. The removal is durable after SyncDir.
func (d Files) Remove(path string) error {
	if err := d.Op("remove " + path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	d.Made(Step{Verb: "remove", Path: path})
	return nil
}

// SyncDir makes the names in a directory durable.
func (d Files) SyncDir(path string) error {
	if err := d.Op("sync directory " + path); err != nil {
		return err
	}
	err := SyncDir(path)
	if err == nil {
		d.Made(Step{Verb: "sync directory", Path: path})
	}
	return err
}

// Create makes a new file with data in it, durably. It fails with fs.ErrExist if the file exists.
// After any other error the file does not exist.
func Create(path string, mode os.FileMode, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory durable. On Windows it does nothing, because there is no
// call for it.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Full reports whether err means that the disk is full, that a quota is used up, or that a file has
// reached its maximum size. It also recognizes errors that were formatted into the text of another.
func Full(err error) bool {
	if err == nil {
		return false
	}
	for _, full := range full {
		if errors.Is(err, full) || strings.HasSuffix(err.Error(), ": "+full.Error()) {
			return true
		}
	}
	return false
}
