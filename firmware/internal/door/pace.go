package door

import "net"

const (
	// unsent bounds what the kernel holds for a connection and has not sent, in bytes. With its own
	// bound a whole image may be gone from here, and count as progress, long before a device on a
	// slow link has it; and a write would wait for a third of that to go, in which time nobody sees
	// that such a device does read.
	unsent = 16 << 10
	// sendBuffer is for systems without such a bound.
	sendBuffer = 128 << 10
)

// Pace has the kernel take what is written to a connection little by little.
func Pace(c net.Conn) {
	if tcp, ok := raw(c).(*net.TCPConn); ok && !lowWater(tcp) {
		_ = tcp.SetWriteBuffer(sendBuffer) // it works with another, too
	}
}
