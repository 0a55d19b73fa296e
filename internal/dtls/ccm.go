package dtls

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// ccm8 is CCM (RFC 3610) as AES_128_CCM_8 uses it: a nonce of 12 bytes, a tag of 8. It has its own
// buffers for blocks, and so allocates nothing and is for one goroutine at a time.
type ccm8 struct {
	b       cipher.Block
	mac     [16]byte // of the data so far
	counter [16]byte
	stream  [16]byte // the key stream at counter
}

const (
	ccmNonce = 12
	ccmTag   = 8
	// ccmLength is the size in bytes of the length of a message, and of the counter.
	ccmLength = 15 - ccmNonce
)

func newCCM8(b cipher.Block) (cipher.AEAD, error) { return &ccm8{b: b}, nil }

func (c *ccm8) NonceSize() int { return ccmNonce }

func (c *ccm8) Overhead() int { return ccmTag }

// Seal implements [cipher.AEAD]. The content may already stand where the result goes.
func (c *ccm8) Seal(dst, nonce, content, data []byte) []byte {
	c.authenticate(nonce, content, data)
	out := append(dst, content...)
	c.crypt(nonce, out[len(dst):])
	return append(out, c.tag()...)
}

// Open implements [cipher.AEAD].
func (c *ccm8) Open(dst, nonce, sealed, data []byte) ([]byte, error) {
	n := len(sealed) - ccmTag
	if n < 0 {
		return nil, errDecrypt
	}
	out := append(dst, sealed[:n]...)
	content := out[len(dst):]
	c.crypt(nonce, content)
	c.authenticate(nonce, content, data)
	if subtle.ConstantTimeCompare(c.tag(), sealed[n:]) != 1 {
		clear(content)
		return nil, errDecrypt
	}
	return out, nil
}

// authenticate computes the MAC (RFC 3610, section 2.2). data has between 1 and 0xfeff bytes.
func (c *ccm8) authenticate(nonce, content, data []byte) {
	c.mac[0] = 1<<6 | (ccmTag-2)/2<<3 | (ccmLength - 1)
	copy(c.mac[1:], nonce)
	n := len(content)
	c.mac[13], c.mac[14], c.mac[15] = byte(n>>16), byte(n>>8), byte(n)
	c.b.Encrypt(c.mac[:], c.mac[:])

	c.mac[0] ^= byte(len(data) >> 8)
	c.mac[1] ^= byte(len(data))
	first := min(len(data), 14)
	subtle.XORBytes(c.mac[2:], c.mac[2:], data[:first])
	c.b.Encrypt(c.mac[:], c.mac[:])
	c.absorb(data[first:])
	c.absorb(content)
}

func (c *ccm8) absorb(p []byte) {
	for len(p) > 0 {
		n := subtle.XORBytes(c.mac[:], c.mac[:], p)
		c.b.Encrypt(c.mac[:], c.mac[:])
		p = p[n:]
	}
}

// crypt encrypts or decrypts p (RFC 3610, section 2.3). It leaves in stream the key stream of the
// tag.
func (c *ccm8) crypt(nonce, p []byte) {
	c.counter[0] = ccmLength - 1
	copy(c.counter[1:], nonce)
	for i := uint32(1); len(p) > 0; i++ {
		c.key(i)
		p = p[subtle.XORBytes(p, p, c.stream[:]):]
	}
	c.key(0)
}

func (c *ccm8) key(i uint32) {
	binary.BigEndian.PutUint32(c.counter[12:], uint32(c.counter[12])<<24|i)
	c.b.Encrypt(c.stream[:], c.counter[:])
}

// tag returns the MAC, encrypted.
func (c *ccm8) tag() []byte {
	subtle.XORBytes(c.mac[:], c.mac[:], c.stream[:])
	return c.mac[:ccmTag]
}
