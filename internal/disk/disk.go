// Package disk writes files that survive a power failure, and recognizes a full disk.
package disk

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

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
