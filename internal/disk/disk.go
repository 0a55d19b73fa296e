// Package disk has what packages need that keep files through a power failure, and on a disk that gets full.
package disk

import (
	"errors"
	"os"
	"runtime"
	"strings"
)

// SyncDir makes the names in a directory durable. Windows has nothing of the kind.
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

// Full tells a disk that is full, a quota that is used up or a file that is as long as files may be. It knows the error too
// where only its text is left.
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
