package udp

import (
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// receiveDestinations asks the system to report the destination address of each datagram.
func receiveDestinations(conn *net.UDPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	failed := raw.Control(func(fd uintptr) {
		// On a dual-stack socket the second option reports IPv4 too, as mapped addresses.
		v4 := unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		v6 := unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		if v4 != nil && v6 != nil {
			err = v4
		}
	})
	return failed == nil && err == nil
}

// destinationSize is the length of the control messages that report the destination.
var destinationSize = unix.CmsgSpace(unix.SizeofInet4Pktinfo) + unix.CmsgSpace(unix.SizeofInet6Pktinfo)

// destinationOf returns the destination address in the control messages of a datagram.
func destinationOf(oob []byte) netip.Addr {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		oob = rest
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(data[4:8])) // the local address, also for a multicast datagram
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(data[:16])).Unmap()
		}
	}
	return netip.Addr{}
}

// sourceControl returns the control message that sets the source of a datagram to addr.
func sourceControl(addr netip.Addr) []byte {
	if addr.Is4() {
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: addr.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: addr.As16()})
}

// buffersOf returns the sizes of the socket's buffers.
func buffersOf(conn net.PacketConn) (receive, send int, known bool) {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return 0, 0, false
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	failed := raw.Control(func(fd uintptr) {
		var second error
		receive, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		send, second = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
		err = errors.Join(err, second)
	})
	// The system doubles what it is asked for, to have room for its own records.
	return receive / 2, send / 2, failed == nil && err == nil
}
