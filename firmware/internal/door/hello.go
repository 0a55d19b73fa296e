package door

import (
	"encoding/binary"
	"errors"
	"net"
)

// maxHello bounds the bytes that are read of a client before TLS reads them. A ClientHello has one
// or two KB, and may come in records of a single byte.
const maxHello = 64 << 10

var errHello = errors.New("the ClientHello is too long")

// A helloConn reads the first bytes of a connection ahead of TLS.
type helloConn struct {
	net.Conn
	early []byte // that TLS has not read yet
	err   error  // that ended the early reading
}

// NetConn returns the underlying connection.
func (c *helloConn) NetConn() net.Conn { return c.Conn }

// Read implements net.Conn.
func (c *helloConn) Read(p []byte) (int, error) {
	switch {
	case len(c.early) > 0:
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	case c.err != nil:
		return 0, c.err
	}
	return c.Conn.Read(p)
}

// need reads until there are n early bytes. It reports false if there are fewer.
func (c *helloConn) need(n int) bool {
	if n > maxHello {
		c.err = errHello
		return false
	}
	var buf [4 << 10]byte
	for len(c.early) < n && c.err == nil {
		var m int
		m, c.err = c.Conn.Read(buf[:])
		c.early = append(c.early, buf[:m]...)
	}
	return len(c.early) >= n
}

// TLS, see RFC 8446, sections 4 and 5.1.
const (
	recordHeader    = 5
	recordHandshake = 22
	maxRecord       = 16 << 10 // bytes of plaintext
	messageHeader   = 4
	clientHello     = 1

	extMaxFragmentLength = 1  // RFC 6066, section 4
	extRecordSizeLimit   = 28 // RFC 8449
)

// limit reads the ClientHello and returns how many bytes of plaintext the client accepts in a
// record, or 0 if it sets no limit. Errors are left to TLS, which reads the same bytes.
func (c *helloConn) limit() int {
	var hello []byte
	for at := 0; c.need(at + recordHeader); {
		header := c.early[at : at+recordHeader]
		size := int(binary.BigEndian.Uint16(header[3:]))
		if header[0] != recordHandshake || header[1] != 3 || size > maxRecord {
			return 0
		}
		if at += recordHeader; !c.need(at + size) {
			return 0
		}
		hello = append(hello, c.early[at:at+size]...)
		at += size
		if len(hello) < messageHeader {
			continue
		}
		whole := messageHeader + int(binary.BigEndian.Uint32(hello)&0xffffff)
		if hello[0] != clientHello || whole > maxHello {
			return 0
		}
		if len(hello) >= whole {
			return recordLimit(hello[messageHeader:whole])
		}
	}
	return 0
}

// recordLimit returns the limit that a ClientHello sets, or 0.
func recordLimit(hello []byte) int {
	const fixed = 2 + 32 // version and random
	if len(hello) < fixed {
		return 0
	}
	in := cut(hello[fixed:])
	in.vector(1) // session id
	in.vector(2) // cipher suites
	in.vector(1) // compression methods
	extensions := cut(in.vector(2))
	limit := maxRecord
	for len(extensions) > 0 {
		kind := extensions.number(2)
		switch value := extensions.vector(2); {
		case kind == extMaxFragmentLength && len(value) == 1 && value[0] >= 1 && value[0] <= 4:
			limit = min(limit, 256<<value[0])
		case kind == extRecordSizeLimit && len(value) == 2:
			// The value includes the content type that TLS 1.3 adds. The minimum is 64.
			if size := int(binary.BigEndian.Uint16(value)); size >= 64 && size <= maxRecord {
				limit = min(limit, size-1)
			}
		}
	}
	if limit == maxRecord {
		return 0
	}
	return limit
}

// A cut is the unread part of a message. A read beyond its end empties it.
type cut []byte

// number reads a number of n bytes.
func (c *cut) number(n int) (v int) {
	for _, b := range c.take(n) {
		v = v<<8 | int(b)
	}
	return v
}

// vector reads a vector whose length has n bytes.
func (c *cut) vector(n int) []byte { return c.take(c.number(n)) }

func (c *cut) take(n int) []byte {
	if n > len(*c) {
		n, *c = 0, nil
	}
	taken := (*c)[:n]
	*c = (*c)[n:]
	return taken
}
