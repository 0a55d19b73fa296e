package bolt_test

import "golang.org/x/sys/unix"

func mountTmpfs(dir, size string) error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size) }

// refusedMmapFlag asks for what no file on a disk has.
const refusedMmapFlag = unix.MAP_HUGETLB
