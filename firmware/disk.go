package firmware

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	files "github.com/otago-iot/otago/internal/disk"
)

// disk is what changes files. Each step of each change first asks hook, which tests set to have the power fail there, and
// tells done when it is made.
type disk struct {
	hook  func(op string) error
	done  func(diskStep)
	spare string // a file that gives way to records, "" for none
}

// A diskStep is one change of files or names.
type diskStep struct {
	verb string // create, mkdir, write, truncate, sync, rename, remove, sync directory
	path string
	to   string // of rename
	at   int64  // of write, and the size of truncate
	data []byte // of write
}

func (d disk) op(name string) error {
	if d.hook == nil {
		return nil
	}
	return d.hook(name)
}

func (d disk) made(step diskStep) {
	if d.done != nil {
		d.done(step)
	}
}

// replace puts data into a file as a whole, durably: a reader, and a restart, find the old content or the new one.
func (d disk) replace(path string, data []byte) error {
	temporary := path + ".new"
	if err := d.op("create " + path); err != nil {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	d.made(diskStep{verb: "create", path: temporary})
	d.made(diskStep{verb: "truncate", path: temporary})
	_, err = d.write(f, data)
	if err == nil {
		err = d.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		if os.Remove(temporary) == nil { // what it has got of a disk that is full is needed
			d.made(diskStep{verb: "remove", path: temporary})
		}
		return err
	}
	return d.rename(temporary, path)
}

// rename gives a file another name in the same directory, durably.
func (d disk) rename(from, to string) error {
	if err := d.op("rename " + to); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	d.made(diskStep{verb: "rename", path: from, to: to})
	return d.syncDir(filepath.Dir(to))
}

// createTemp makes a new file whose name matches the pattern, as os.CreateTemp does.
func (d disk) createTemp(dir, pattern string) (*os.File, error) {
	if err := d.op("create " + filepath.Join(dir, pattern)); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, pattern)
	if err == nil {
		d.made(diskStep{verb: "create", path: f.Name()})
	}
	return f, err
}

// mkdirAll makes a directory, and those above it, where they are not there. What it makes is durable, and its owner's only.
func (d disk) mkdirAll(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	dir = filepath.Clean(dir)
	above := filepath.Dir(dir)
	if above != dir {
		if err := d.mkdirAll(above); err != nil {
			return err
		}
	}
	if err := d.op("mkdir " + dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		if info, statErr := os.Stat(dir); statErr != nil || !info.IsDir() { // somebody else may have made it meanwhile
			return err
		}
	}
	d.made(diskStep{verb: "mkdir", path: dir})
	err := d.syncDir(above)
	if err != nil {
		os.Remove(dir) // the next one who needs it shall sync it too
	}
	return err
}

// spareSize is more than a record, its name and the directory's entry take on any file system that is in use.
const spareSize = 32 << 10

// replaceState is replace for a record that must find room on a disk that is full: a device has to be able to say that it is,
// and to start the version that works. The spare file gives way, and is back as soon as there is room for it.
func (d disk) replaceState(path string, data []byte) error {
	err := d.replace(path, data)
	if outOfSpace(err) && d.spare != "" && os.Remove(d.spare) == nil {
		err = d.replace(path, data)
	}
	if err == nil {
		d.keepSpare()
	}
	return err
}

// keepSpare makes the spare file if it is not there. Its content is random, as file systems that compress give zeros no room.
func (d disk) keepSpare() {
	if d.spare == "" {
		return
	}
	if stat, err := os.Stat(d.spare); err == nil && stat.Size() == spareSize {
		return
	}
	data := make([]byte, spareSize)
	_, _ = rand.Read(data)
	f, err := os.OpenFile(d.spare, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(d.spare) // half of it is of no use; later, then
	}
}

func (d disk) replaceStateJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return d.replaceState(path, data)
}

// readJSON reads what replaceStateJSON wrote. A file that is not there changes nothing.
func (d disk) readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (d disk) write(f *os.File, p []byte) (int, error) {
	if err := d.op("write"); err != nil {
		return 0, err
	}
	n, err := f.Write(p)
	if d.done != nil && n > 0 {
		end, _ := f.Seek(0, io.SeekCurrent)
		d.made(diskStep{verb: "write", path: f.Name(), at: end - int64(n), data: bytes.Clone(p[:n])})
	}
	return n, err
}

func (d disk) sync(f *os.File) error {
	if err := d.op("sync " + f.Name()); err != nil {
		return err
	}
	err := f.Sync()
	if err == nil {
		d.made(diskStep{verb: "sync", path: f.Name()})
	}
	return err
}

func (d disk) truncate(f *os.File, size int64) error {
	if err := d.op("truncate " + f.Name()); err != nil {
		return err
	}
	err := f.Truncate(size)
	if err == nil {
		d.made(diskStep{verb: "truncate", path: f.Name(), at: size})
	}
	return err
}

// remove removes a file that may not be there.
func (d disk) remove(path string) error {
	if err := d.op("remove " + path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	d.made(diskStep{verb: "remove", path: path})
	return nil
}

// syncDir makes names in a directory durable.
func (d disk) syncDir(path string) error {
	if err := d.op("sync directory " + path); err != nil {
		return err
	}
	err := files.SyncDir(path)
	if err == nil {
		d.made(diskStep{verb: "sync directory", path: path})
	}
	return err
}

// outOfSpace tells a disk that is full, a quota that is used up or a file that is as long as files may be.
func outOfSpace(err error) bool { return files.Full(err) }

// free returns the free bytes of the file system of a directory.
func (d disk) free(dir string) (int64, error) {
	if err := d.op("free"); errors.Is(err, ErrNoStorage) {
		return 0, nil
	}
	return freeSpace(dir)
}
