//go:build unix

package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

var full = []error{unix.ENOSPC, unix.EDQUOT, unix.EFBIG}

// CloseLocked closes a file that is locked by flock. It unlocks the file first, because closing
// does not unlock a file that is also mapped into memory.
func CloseLocked(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}
