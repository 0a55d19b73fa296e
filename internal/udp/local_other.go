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
