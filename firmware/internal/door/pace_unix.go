//go:build linux || darwin

package door

import (
	"net"

	"golang.org/x/sys/unix"
)

// lowWater bounds the unsent bytes, and reports whether the system can.
func lowWater(c *net.TCPConn) bool {
	conn, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var set error
	err = conn.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent) })
	return err == nil && set == nil
}
