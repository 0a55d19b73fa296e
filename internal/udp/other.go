//go:build !linux

package udp

import (
	"net"
	"net/netip"
)

const destinationSize = 0

func receiveDestinations(*net.UDPConn) bool { return false }

func destinationOf([]byte) netip.Addr { return netip.Addr{} }

func sourceControl(netip.Addr) []byte { return nil }

func buffersOf(net.PacketConn) (receive, send int, known bool) { return 0, 0, false }

// batch is for Linux only.
type batch struct{}

func newBatch(*net.UDPConn) *batch { return nil }

func (*batch) read(*locals, func(int) []byte, func(int, int, netip.AddrPort, *Local)) error {
	return net.ErrClosed
}

func (*batch) post([]byte, netip.AddrPort, *Local) bool { return false }

func (*batch) rest() {}

func (*batch) setGate(func() bool) {}
