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

// escape returns the character that the escape at pos stands for, and how long
// the escape is: 0 if there is none. Half a surrogate pair is none.
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
	if !ok || !utf16.IsSurrogate(high) {
		return high, 6 * btoi(ok)
	}
	low, ok := r.hex(pos + 6)
	pair := utf16.DecodeRune(high, low)
	return pair, 12 * btoi(ok && pair != utf8.RuneError)
}

// hex returns the value of the \uXXXX at pos.
func (r *jsonReader) hex(pos int) (rune, bool) {
	if pos+6 > len(r.s) || r.s[pos] != '\\' || r.s[pos+1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(r.s[pos+2:pos+6], 16, 16)
	return rune(v), err == nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// number reads a number. Integers of 64 bits and decimals of about 18 digits are
// exact, others become the nearest float64.
func (r *jsonReader) number() (Number, error) {
	s, start := r.s, r.pos
	i := start
	negative := i < len(s) && s[i] == '-'
	if negative {
		i++
	}
	if i == len(s) || s[i] < '0' || s[i] > '9' {
		if negative {
			r.pos = i
			return Number{}, ErrSyntax
		}
		return Number{}, r.mistyped()
	}
	var mantissa uint64
	exact, exp := true, 0
	first := i
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		exact = exact && addDigit(&mantissa, s[i])
	}
	if i > first+1 && s[first] == '0' {
		r.pos = first + 1
		return Number{}, ErrSyntax // leading zero
	}
	if i < len(s) && s[i] == '.' {
		i++
		point := i
		for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
			exact = exact && addDigit(&mantissa, s[i])
		}
		if i == point {
			r.pos = i
			return Number{}, ErrSyntax
		}
		exp = point - i
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		e, end := exponent(s, i+1)
		if end == 0 {
			r.pos = min(i+1, len(s))
			return Number{}, ErrSyntax
		}
		exp, i = exp+e, end
	}
	r.pos = i
	if exact {
		if n, ok := exactNumber(negative, mantissa, exp); ok {
			return n, nil
		}
	}
	f, err := strconv.ParseFloat(s[start:i], 64)
	if err != nil {
		return Number{}, ErrNumber
	}
	return Float(f), nil
}

// addDigit reports whether m still fits after taking another digit.
func addDigit(m *uint64, c byte) bool {
	const limit = (1<<64 - 1) / 10
	d := uint64(c - '0')
	if *m > limit || *m == limit && d > 5 {
		return false
	}
	*m = *m*10 + d
	return true
}

// exponent reads the digits of an exponent at i and returns it, kept small
// enough for an int, and where it ends; 0 if there are no digits.
func exponent(s string, i int) (exp, end int) {
	negative := false
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		negative = s[i] == '-'
		i++
	}
	first := i
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		exp = min(exp*10+int(s[i]-'0'), 1<<20)
	}
	if i == first {
		return 0, 0
	}
	if negative {
		exp = -exp
	}
	return exp, i
}

// exactNumber returns ±mantissa * 10**exp if a Number can be just that.
func exactNumber(negative bool, mantissa uint64, exp int) (Number, bool) {
	if exp == 0 && !negative {
		return Uint(mantissa), true
	}
	if mantissa > 1<<63-1 && !(negative && mantissa == 1<<63) {
		return Number{}, false
	}
	m := int64(mantissa)
	if negative {
		m = -m
	}
	if exp == 0 {
		return Int(m), true
	}
	n := Decimal(m, exp)
	return n, n.kind == signed && exp >= minExp || n.kind == decimal && n.isFinite()
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
