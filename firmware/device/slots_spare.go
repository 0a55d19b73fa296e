package device

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/otago-iot/otago/internal/disk"
)

// spareSize is larger than a record, its name and its directory entry on any common file system.
const spareSize = 32 << 10

// folder writes the files of Slots. spare is the path of a file that is deleted when a record needs
// its space.
type folder struct {
	disk.Files
	spare string
}

// replaceState replaces a record even on a full disk: a device must be able to report that its disk
// is full, and to start the version that works. If there is no space, it deletes the spare file,
// which is written again as soon as it fits.
func (f folder) replaceState(path string, data []byte) error {
	err := f.Replace(path, data)
	if disk.Full(err) && os.Remove(f.spare) == nil {
		err = f.Replace(path, data)
	}
	if err == nil {
		f.keepSpare()
	}
	return err
}

// keepSpare writes the spare file if it is missing or incomplete. Its content is random, because
// file systems that compress store zeros in no space at all.
func (f folder) keepSpare() {
	if stat, err := os.Stat(f.spare); err == nil && stat.Size() == spareSize {
		return
	}
	data := make([]byte, spareSize)
	_, _ = rand.Read(data)
	file, err := os.OpenFile(f.spare, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Close()); err != nil {
		os.Remove(f.spare) // an incomplete one is useless; the next record tries again
	}
}

func (f folder) replaceStateJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.replaceState(path, data)
}

// readJSON reads what replaceStateJSON wrote. It leaves v as it is if there is no such file.
func readJSON(path string, v any) error {
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

// free returns the free bytes of the file system of a directory.
func (f folder) free(dir string) (int64, error) {
	if err := f.Op("free"); errors.Is(err, ErrNoStorage) {
		return 0, nil
	}
	return freeSpace(dir)
}
