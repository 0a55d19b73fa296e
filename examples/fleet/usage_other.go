//go:build !unix

package main

import "time"

// resources is not implemented on this system.
func resources() (user, system time.Duration, peak uint64) { return 0, 0, 0 }
