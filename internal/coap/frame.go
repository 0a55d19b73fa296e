package coap

// appendFrame appends m as a frame of a stream (RFC 8323, section 3.2). Its
// options must be sorted.
func (m *wireMessage) appendFrame(dst []byte) []byte {
	at := len(dst)
	// The length of what follows the token decides the length of the header.
	var scratch [6]byte
	body := m.appendOptions(append(dst, scratch[:]...))
	n := len(body) - at - len(scratch)

	var header [6]byte
	h := header[:1]
	switch {
	case n < 13:
		h[0] = byte(n) << 4
	case n < 269:
		h[0] = 13 << 4
		h = append(h, byte(n-13))
	case n < 65805:
		h[0] = 14 << 4
		h = append(h, byte((n-269)>>8), byte(n-269))
	default:
		v := n - 65805
		h[0] = 15 << 4
		h = append(h, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	h[0] |= m.token.n
	head := append(append(append([]byte(nil), h...), byte(m.code)), m.token.bytes()...)
	rest := append([]byte(nil), body[at+len(scratch):]...)
	return append(append(body[:at], head...), rest...)
}
