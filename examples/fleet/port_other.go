//go:build !linux

package main

import (
	"errors"
	"net/netip"
)

// port is not implemented on this system.
type port struct{}

func openPort(netip.AddrPort) (*port, error) {
	return nil, errors.New("simulated devices with addresses of their own need Linux")
}

func (*port) number() uint16                            { return 0 }
func (*port) read([]byte) (n int, to uint32, err error) { return 0, 0, errors.ErrUnsupported }
func (*port) write([]byte, uint32) error                { return errors.ErrUnsupported }
func (*port) close()                                    {}
