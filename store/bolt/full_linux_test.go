package bolt_test

import "golang.org/x/sys/unix"

func mountTmpfs(dir, size string) error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size) }

// refusedMmapFlag is a flag that mmap refuses for any file on a disk.
const refusedMmapFlag = unix.MAP_HUGETLB
