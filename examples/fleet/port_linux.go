package main

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// port is a UDP socket that has all addresses of 127.0.0.0/8 at once. The kernel says to which one
// a datagram came, and sends from the one that a message names (ip(7), IP_PKTINFO).
type port struct {
	conn    *net.UDPConn
	server  netip.AddrPort
	control []byte // of a datagram that was received
	sends   []byte // of one to send
}

// controlSize is the size of the control message of a datagram.
var controlSize = len(unix.PktInfo4(&unix.Inet4Pktinfo{}))

func openPort(server netip.AddrPort) (*port, error) {
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		if controlErr := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
		}); err == nil {
			err = controlErr
		}
	}
	if err == nil {
		err = conn.SetReadBuffer(readBuffer)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &port{conn: conn, server: server, control: make([]byte, controlSize), sends: unix.PktInfo4(&unix.Inet4Pktinfo{})}, nil
}

// number returns the number of the port.
func (p *port) number() uint16 { return p.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

// read receives a datagram, and returns its length and the address that it came to.
func (p *port) read(b []byte) (n int, to uint32, err error) {
	n, size, _, from, err := p.conn.ReadMsgUDPAddrPort(b, p.control)
	if err != nil || size < controlSize || from != p.server {
		return 0, 0, err
	}
	return n, binary.BigEndian.Uint32(p.control[unix.CmsgLen(0)+8:]), nil
}

// write sends a datagram from an address. Callers take turns.
func (p *port) write(b []byte, from uint32) error {
	binary.BigEndian.PutUint32(p.sends[unix.CmsgLen(0)+4:], from)
	_, _, err := p.conn.WriteMsgUDPAddrPort(b, p.sends, p.server)
	return err
}

func (p *port) close() { p.conn.Close() }
