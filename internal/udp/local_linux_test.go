package udp

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRoutesAreAskedOnce checks how often LocalAddr queries the routing table, and how much it
// remembers.
func TestRoutesAreAskedOnce(t *testing.T) {
	socket, err := net.ListenPacket("udp", ":0")
	require.NoError(t, err)
	c := New(socket)
	defer c.Close()
	heard := c.locals.of(netip.MustParseAddr("127.0.0.3"))
	require.Equal(t, netip.MustParseAddr("127.0.0.3"), c.LocalAddr(netip.MustParseAddrPort("127.0.0.9:1"), heard).Addr())
	require.Empty(t, c.locals.routes, "the routing table was asked")
	for i := range 1000 { // each loopback address counts as a network
		c.LocalAddr(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, byte(i >> 8), byte(i)}), 1), nil)
	}
	require.NotEmpty(t, c.locals.routes)
	require.LessOrEqual(t, len(c.locals.routes), maxLocals)

	clear(c.locals.routes)
	for i := range 100 {
		c.LocalAddr(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 1), nil)
	}
	require.LessOrEqual(t, len(c.locals.routes), 1, "none without a route")
	for i := range 1000 {
		c.locals.of(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}))
	}
	require.LessOrEqual(t, len(c.locals.known), maxLocals)
}
