//go:build !windows

package httpapi

import "syscall"

var noRoom = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG}
