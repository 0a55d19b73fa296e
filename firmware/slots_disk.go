package firmware

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// disk is what changes files. Each step of each change first asks hook, which tests set to have the power fail there.
type disk struct {
	hook  func(op string) error
	spare string // a file that gives way to records, "" for none
}

func (d disk) op(name string) error {
	if d.hook == nil {
		return nil
	}
	return d.hook(name)
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
	_, err = d.write(f, data)
	if err == nil {
		err = d.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(temporary) // what it has got of a disk that is full is needed
		return err
	}
	if err := d.op("rename " + path); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(path))
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

func (d disk) write(f io.Writer, p []byte) (int, error) {
	if err := d.op("write"); err != nil {
		return 0, err
	}
	return f.Write(p)
}

func (d disk) sync(f *os.File) error {
	if err := d.op("sync " + f.Name()); err != nil {
		return err
	}
	return f.Sync()
}

func (d disk) truncate(f *os.File, size int64) error {
	if err := d.op("truncate " + f.Name()); err != nil {
		return err
	}
	return f.Truncate(size)
}

// remove removes a file that may not be there.
func (d disk) remove(path string) error {
	if err := d.op("remove " + path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes names in a directory durable. Windows has nothing of the kind.
func (d disk) syncDir(path string) error {
	if err := d.op("sync directory " + path); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// free returns the free bytes of the file system of a directory.
func (d disk) free(dir string) (int64, error) {
	if err := d.op("free"); errors.Is(err, ErrNoStorage) {
		return 0, nil
	}
	return freeSpace(dir)
}
