//go:build unix

package files

import (
	"math"

	"golang.org/x/sys/unix"
)

// Limit returns how many files and sockets this process may have open.
func Limit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}
