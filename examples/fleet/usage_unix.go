//go:build unix

package main

import (
	"runtime"
	"syscall"
	"time"
)

// resources returns the processor time of this process and its maximum memory in bytes.
func resources() (user, system time.Duration, peak uint64) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0, 0, 0
	}
	peak = uint64(r.Maxrss)
	if runtime.GOOS != "darwin" {
		peak <<= 10
	}
	return time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano()), peak
}
