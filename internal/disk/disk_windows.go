//go:build windows

package disk

import (
	"os"

	"golang.org/x/sys/windows"
)

var full = []error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED}

// CloseLocked closes a file that is locked.
func CloseLocked(f *os.File) error { return f.Close() }
