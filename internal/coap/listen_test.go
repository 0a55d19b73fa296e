package coap

import (
	"context"
	"net"
)

// ListenConfig configures [ListenUDP]. The zero value works.
type ListenConfig struct {
	// ReusePort allows several sockets on one address (SO_REUSEPORT): the system distributes the
	// peers among them, and each has its own reader.
	ReusePort bool
	// ReadBuffer is the size of the socket's receive buffer in bytes, as far as the system allows.
	// Default 4 MiB: a fleet that wakes up at once sends faster than one reader reads.
	ReadBuffer int
}

// ListenUDP opens a socket for [Endpoint.ServePacket]. address is "host:port"; without host it is
// the wildcard of both address families. On Linux, answers leave from the address that the request
// was sent to. On other systems, a host with several addresses in one network may answer from
// another one: serve a socket for each address there.
func ListenUDP(ctx context.Context, address string, config ListenConfig) (*net.UDPConn, error) {
	var lc net.ListenConfig
	if config.ReusePort {
		lc.Control = reusePort
	}
	conn, err := lc.ListenPacket(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	setDefault(&config.ReadBuffer, 4<<20)
	udp := conn.(*net.UDPConn)
	if err := udp.SetReadBuffer(config.ReadBuffer); err != nil {
		udp.Close()
		return nil, err
	}
	return udp, nil
}
