package coap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/tcp/coder"
)

// appendFrame appends m as a frame of a stream (RFC 8323, section 3.2). Its options must be sorted.
func (m *wireMessage) appendFrame(dst []byte) []byte {
	g := m.encodable()
	n, err := coder.DefaultCoder.Encode(g, dst[len(dst):cap(dst)])
	if err != nil {
		dst = slices.Grow(dst, n)
		n, _ = coder.DefaultCoder.Encode(g, dst[len(dst):cap(dst)])
	}
	return dst[:len(dst)+n]
}

// readHeader reads the header of the next frame: length, code and token.
func readHeader(r *bufio.Reader) (h coder.MessageHeader, err error) {
	var b [1 + 4 + 1 + message.MaxTokenSize]byte
	for n := range b {
		if b[n], err = r.ReadByte(); err != nil {
			if n > 0 {
				err = unexpected(err)
			}
			return h, err
		}
		_, err = coder.DefaultCoder.DecodeHeader(b[:n+1], &h)
		switch {
		case err == nil:
			return h, nil
		case errors.Is(err, coder.ErrMessageTooLong):
			return h, fmt.Errorf("%w: frame of more than 4 GiB", ErrTooLarge)
		case !errors.Is(err, message.ErrShortRead):
			return h, fmt.Errorf("%w: %v", errFormat, err)
		}
	}
	return h, errFormat // no header is longer
}

// readFrame reads the next frame. Errors are those of the reader, errFormat and ErrTooLarge. Memory
// is allocated only as bytes arrive.
func readFrame(r *bufio.Reader) (*packet, error) {
	h, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	length := h.MessageLength - h.Length
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
	p.msg.options = p.store[:0]
	if err := p.msg.parseFrame(h, p.buf[:n]); err != nil {
		p.free()
		return nil, err
	}
	return p, nil
}

// parseFrame reads the part of a frame that follows the header.
func (m *wireMessage) parseFrame(h coder.MessageHeader, b []byte) error {
	m.typ, m.code, m.mid, m.token = confirmable, h.Code, 0, makeToken(h.Token)
	g := message.Message{Options: m.options[:0]}
	_, err := coder.DefaultCoder.DecodeWithHeader(b, h, &g)
	if m.enlarge(err) {
		return m.parseFrame(h, b)
	}
	return m.take(&g, err)
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
