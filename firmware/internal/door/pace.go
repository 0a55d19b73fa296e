package door

import "net"

const (
	// unsent bounds the unsent bytes that the kernel holds for a connection. With the kernel's own
	// bound a whole image may count as progress long before a device on a slow link has it. And a
	// write would wait until a third of the buffer is free: meanwhile such a device would look like
	// one that does not read.
	unsent = 16 << 10
	// sendBuffer is the size of the send buffer on systems without such a bound.
	sendBuffer = 128 << 10
)

// Pace keeps the kernel from accepting much more than it has sent on a connection.
func Pace(c net.Conn) {
	if tcp, ok := raw(c).(*net.TCPConn); ok && !lowWater(tcp) {
		_ = tcp.SetWriteBuffer(sendBuffer) // an error only makes progress less exact
	}
}
