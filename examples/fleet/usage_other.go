//go:build !unix

package main

import "time"

// resources is for systems that tell in another way.
func resources() (user, system time.Duration, peak uint64) { return 0, 0, 0 }

// openFiles returns 0: there is no limit that is known.
func openFiles() int { return 0 }
