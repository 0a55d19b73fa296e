//go:build windows

package device

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/windows"
)

// lockFile locks a file until it is closed or the process ends.
func lockFile(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("device: the directory of the slots cannot be written: %w", err)
	}
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	if err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, new(windows.Overlapped)); err != nil {
		f.Close()
		if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, path)
		}
		return nil, fmt.Errorf("device: lock the slots: %w", err)
	}
	return f, nil
}

// freeSpace returns how many bytes can be written to the file system of dir.
func freeSpace(dir string) (int64, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return 0, err
	}
	return int64(min(free, math.MaxInt64/2)), nil
}

// replaceProcess fails: a process of Windows cannot become another program.
func replaceProcess(path string, args, env []string) error {
	return &os.PathError{Op: "exec", Path: path, Err: errors.ErrUnsupported}
}

func outOfMemory(err error) bool {
	return errors.Is(err, windows.ERROR_NOT_ENOUGH_MEMORY) || errors.Is(err, windows.ERROR_OUTOFMEMORY)
}
