package senml

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// unescape reads a string that began at start and has its first escape at pos.
func (r *jsonReader) unescape(start int) (string, error) {
	b := append(make([]byte, 0, r.pos-start+32), r.s[start:r.pos]...)
	for r.pos < len(r.s) {
		c := r.s[r.pos]
		switch {
		case c == '"':
			r.pos++
			if !utf8.Valid(b) {
				r.pos = start
				return "", ErrSyntax
			}
			return string(b), nil
		case c < ' ':
			return "", ErrSyntax
		case c != '\\':
			b = append(b, c)
			r.pos++
		default:
			char, size := r.escape(r.pos)
			if size == 0 {
				return "", ErrSyntax
			}
			b = utf8.AppendRune(b, char)
			r.pos += size
		}
	}
	return "", ErrSyntax
}

// escape returns the character that the escape at pos stands for, and the length of the escape: 0
// if it is not valid, as half a surrogate pair is not.
func (r *jsonReader) escape(pos int) (char rune, size int) {
	if pos+1 >= len(r.s) {
		return 0, 0
	}
	switch c := r.s[pos+1]; c {
	case '"', '\\', '/':
		return rune(c), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	}
	high, ok := r.hex(pos)
	switch {
	case !ok:
		return 0, 0
	case !utf16.IsSurrogate(high):
		return high, 6
	}
	low, ok := r.hex(pos + 6)
	if pair := utf16.DecodeRune(high, low); ok && pair != utf8.RuneError {
		return pair, 12
	}
	return 0, 0
}

// hex returns the value of the \uXXXX at pos.
func (r *jsonReader) hex(pos int) (rune, bool) {
	if pos+6 > len(r.s) || r.s[pos] != '\\' || r.s[pos+1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(r.s[pos+2:pos+6], 16, 16)
	return rune(v), err == nil
}

// base64Values decodes both alphabets of RFC 4648; 0xff is in neither.
var base64Values = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	for i := range len(digits) {
		t[digits[i]] = byte(i)
	}
	t['-'], t['_'], t['+'], t['/'] = 62, 63, 62, 63
	return t
}()

// decodeBase64 decodes s, with or without padding.
func decodeBase64(s string) ([]byte, bool) {
	if len(s)%4 == 0 {
		for range 2 {
			if n := len(s); n > 0 && s[n-1] == '=' {
				s = s[:n-1]
			}
		}
	}
	if len(s)%4 == 1 {
		return nil, false
	}
	b := make([]byte, 0, len(s)/4*3+2)
	var bits, bad uint32
	for i := range len(s) {
		v := base64Values[s[i]]
		bad |= uint32(v) & 0x80
		bits = bits<<6 | uint32(v)
		if i%4 == 3 {
			b = append(b, byte(bits>>16), byte(bits>>8), byte(bits))
		}
	}
	switch len(s) % 4 {
	case 2:
		b = append(b, byte(bits>>4))
	case 3:
		b = append(b, byte(bits>>10), byte(bits>>2))
	}
	return b, bad == 0
}
