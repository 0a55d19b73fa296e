package coap

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/plgd-dev/go-coap/v3/tcp/coder"
)

// appendFrame appends m as a frame of a stream (RFC 8323, section 3.2). Its
// options must be sorted.
func (m *wireMessage) appendFrame(dst []byte) []byte {
	// The length of what follows the token decides the length of the header,
	// which is left out at first.
	at := len(dst)
	const longest = 1 + 4 + 1 + 8
	dst = append(dst, make([]byte, longest)...)
	dst = m.appendOptions(dst)
	n := len(dst) - at - longest

	var header [longest]byte
	h := header[:1]
	switch {
	case n < coder.MessageLength13Base:
		h[0] = byte(n) << 4
	case n < coder.MessageLength14Base:
		h[0] = 13 << 4
		h = append(h, byte(n-coder.MessageLength13Base))
	case n < coder.MessageLength15Base:
		h[0] = 14 << 4
		h = binary.BigEndian.AppendUint16(h, uint16(n-coder.MessageLength14Base))
	default:
		h[0] = 15 << 4
		h = binary.BigEndian.AppendUint32(h, uint32(n-coder.MessageLength15Base))
	}
	h[0] |= m.token.n
	h = append(h, byte(m.code))
	h = append(h, m.token.bytes()...)
	copy(dst[at:], h)
	if gap := longest - len(h); gap > 0 {
		copy(dst[at+len(h):], dst[at+longest:])
		dst = dst[:len(dst)-gap]
	}
	return dst
}

// readFrame reads the next frame. Errors are those of the reader, errFormat,
// and ErrTooLarge. The memory that a peer can claim grows with what it sends.
func readFrame(r *bufio.Reader) (*packet, error) {
	first, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	var rest [4 + 1 + 8]byte
	extra := extendedLength(first)
	tkl := int(first & 15)
	if tkl > 8 {
		return nil, fmt.Errorf("%w: token of %d bytes", errFormat, tkl)
	}
	head := rest[:extra+1+tkl]
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, unexpected(err)
	}
	length := frameLength(first, head)
	if length > maxFrame {
		return nil, fmt.Errorf("%w: frame of %d bytes", ErrTooLarge, length)
	}
	n := int(length)
	p := newPacket()
	if n > maxDatagram {
		p.free()
		p = &packet{}
	}
	for got := 0; got < n; {
		step := min(n-got, maxDatagram)
		if len(p.buf) < got+step {
			p.buf = append(p.buf, make([]byte, step)...)
		}
		if _, err := io.ReadFull(r, p.buf[got:got+step]); err != nil {
			p.free()
			return nil, unexpected(err)
		}
		got += step
	}
	p.n = n
	m := &p.msg
	m.options = p.store[:0]
	m.typ, m.code, m.mid, m.token = confirmable, Code(head[extra]), 0, makeToken(head[extra+1:])
	if err := m.parseOptions(p.buf[:n]); err != nil {
		p.free()
		return nil, err
	}
	return p, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// extendedLength is how many bytes of length follow the first byte.
func extendedLength(first byte) int {
	switch first >> 4 {
	case 13:
		return 1
	case 14:
		return 2
	case 15:
		return 4
	}
	return 0
}

// frameLength is the length of options and payload.
func frameLength(first byte, head []byte) int64 {
	switch first >> 4 {
	case 13:
		return int64(head[0]) + coder.MessageLength13Base
	case 14:
		return int64(binary.BigEndian.Uint16(head)) + coder.MessageLength14Base
	case 15:
		return int64(binary.BigEndian.Uint32(head)) + coder.MessageLength15Base
	}
	return int64(first >> 4)
}
