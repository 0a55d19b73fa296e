package senml

import (
	"math"
	"strings"
	"unicode/utf8"
)

// head is the head of an item.
type head struct {
	major byte // majorUint to majorSimple
	info  byte // the low five bits
	arg   uint64
}

const indefinite = 31 // as head.info

// readHead reads a head. On an error pos stays.
func (r *cborReader) readHead() (head, error) {
	if r.pos == len(r.s) {
		return head{}, ErrTruncated
	}
	c := r.s[r.pos]
	h := head{major: c & 0xe0, info: c & 0x1f}
	if h.info < 24 {
		h.arg = uint64(h.info)
		r.pos++
		return h, nil
	}
	if h.info > 27 {
		if h.info != indefinite || h.major == majorUint || h.major == majorNegInt || h.major == majorTag {
			return head{}, ErrSyntax
		}
		r.pos++
		return h, nil
	}
	size := 1 << (h.info - 24)
	if len(r.s)-r.pos-1 < size {
		return head{}, ErrTruncated
	}
	for i := r.pos + 1; i <= r.pos+size; i++ {
		h.arg = h.arg<<8 | uint64(r.s[i])
	}
	if h.major == majorSimple && h.info == 24 && h.arg < 32 {
		return head{}, ErrSyntax // RFC 8949, section 3.3
	}
	r.pos += 1 + size
	return h, nil
}

// more reports whether another item of a container follows, of which n were
// read. It consumes the break of an indefinite one.
func (r *cborReader) more(h head, n uint64) bool {
	if h.info != indefinite {
		return n < h.arg
	}
	if r.pos < len(r.s) && r.s[r.pos] == cborBreak {
		r.pos++
		return false
	}
	return true
}

// text reads a text string.
func (r *cborReader) text() (string, error) {
	start := r.pos
	if start < len(r.s) { // a short one, as nearly all are
		n := int(r.s[start] ^ majorText)
		if end := start + 1 + n; n < 24 && end <= len(r.s) {
			s := r.s[start+1 : end]
			if isASCII(s) || utf8.ValidString(s) {
				r.pos = end
				return s, nil
			}
		}
	}
	s, err := r.str(majorText)
	if err == nil && !utf8.ValidString(s) {
		r.pos = start
		return "", ErrSyntax
	}
	return s, err
}

func isASCII(s string) bool {
	var or byte
	for i := range len(s) {
		or |= s[i]
	}
	return or < utf8.RuneSelf
}

// str reads a string of the given major type: a slice of the input, unless it
// comes in pieces.
func (r *cborReader) str(major byte) (string, error) {
	start := r.pos
	h, err := r.readHead()
	if err != nil {
		return "", err
	}
	if h.major != major {
		r.pos = start
		return "", r.mistyped()
	}
	if h.info != indefinite {
		return r.take(start, h.arg)
	}
	var pieces strings.Builder
	for r.more(h, 0) {
		at := r.pos
		p, err := r.readHead()
		if err != nil {
			return "", err
		}
		if p.major != major || p.info == indefinite {
			r.pos = at
			return "", ErrSyntax
		}
		piece, err := r.take(at, p.arg)
		if err != nil {
			return "", err
		}
		if major == majorText && !utf8.ValidString(piece) {
			r.pos = at
			return "", ErrSyntax
		}
		pieces.WriteString(piece)
	}
	return pieces.String(), nil
}

// take returns the next n bytes, of the item that began at start.
func (r *cborReader) take(start int, n uint64) (string, error) {
	if n > uint64(len(r.s)-r.pos) {
		r.pos = start
		return "", ErrTruncated
	}
	s := r.s[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return s, nil
}

func (r *cborReader) bool() (bool, error) {
	if r.pos < len(r.s) {
		switch r.s[r.pos] {
		case cborFalse:
			r.pos++
			return false, nil
		case cborTrue:
			r.pos++
			return true, nil
		}
	}
	return false, r.mistyped()
}

// number reads an integer, a float, a decimal fraction, or for LwM2M a tagged time.
func (r *cborReader) number() (Number, error) {
	start := r.pos
	if start < len(r.s) && r.s[start] < 24 {
		r.pos++
		return Int(int64(r.s[start])), nil
	}
	h, err := r.readHead()
	if err != nil {
		return Number{}, err
	}
	switch h.major {
	case majorUint:
		return Uint(h.arg), nil
	case majorNegInt:
		return negative(h.arg), nil
	case majorSimple:
		var f float64
		switch h.info {
		case 25:
			f = fromHalf(uint16(h.arg))
		case 26:
			f = float64(math.Float32frombits(uint32(h.arg)))
		case 27:
			f = math.Float64frombits(h.arg)
		default:
			r.pos = start
			return Number{}, r.mistyped()
		}
		if f-f != 0 { // not finite
			return Number{}, ErrNumber
		}
		return Float(f), nil
	case majorTag:
		switch {
		case h.arg == tagDecimal:
			return r.decimal(start)
		case h.arg <= tagEpoch && r.check.codec.LwM2M:
			return r.time(h.arg, start)
		}
	}
	r.pos = start
	return Number{}, r.mistyped()
}

// negative returns -1-arg.
func negative(arg uint64) Number {
	switch {
	case arg <= math.MaxInt64:
		return Int(-1 - int64(arg))
	case arg == math.MaxUint64:
		return Float(-0x1p64)
	}
	return Float(-float64(arg + 1)) // rounded once
}

// decimal reads the content of a decimal fraction: [exponent, mantissa].
func (r *cborReader) decimal(start int) (Number, error) {
	h, err := r.readHead()
	if err != nil {
		return Number{}, err
	}
	if h.major != majorArray || h.info != indefinite && h.arg != 2 {
		r.pos = start
		return Number{}, r.mistyped()
	}
	var parts [2]Number
	for i := range parts {
		p, err := r.readHead()
		if err != nil {
			return Number{}, err
		}
		switch p.major {
		case majorUint:
			parts[i] = Uint(p.arg)
		case majorNegInt:
			parts[i] = negative(p.arg)
		default: // a bignum among others
			r.pos = start
			return Number{}, r.mistyped()
		}
	}
	if h.info == indefinite && r.more(h, 0) {
		r.pos = start
		return Number{}, r.mistyped()
	}
	exp, ok1 := parts[0].Int64()
	m, ok2 := parts[1].Int64()
	if !ok1 || !ok2 {
		return Number{}, ErrNumber
	}
	n := Decimal(m, int(max(-1<<20, min(exp, 1<<20))))
	if !n.isFinite() {
		return Number{}, ErrNumber
	}
	return n, nil
}

// mistyped returns ErrType if a well-formed item begins here, else what is wrong
// with it.
func (r *cborReader) mistyped() error {
	start := r.pos
	if err := r.skip(maxDepth); err != nil {
		return err
	}
	r.pos = start
	return ErrType
}

// skip passes over any item, which may nest depth levels.
func (r *cborReader) skip(depth int) error {
	start := r.pos
	h, err := r.readHead()
	if err != nil {
		return err
	}
	switch h.major {
	case majorBytes:
		r.pos = start
		_, err := r.str(majorBytes)
		return err
	case majorText:
		r.pos = start
		_, err := r.text()
		return err
	case majorArray, majorMap, majorTag:
		if depth == 0 {
			r.pos = start
			return ErrTooLarge
		}
		if h.major == majorTag {
			return r.skip(depth - 1)
		}
		for n := uint64(0); r.more(h, n); n++ {
			if err := r.skip(depth - 1); err != nil {
				return err
			}
			if h.major == majorMap {
				if err := r.skip(depth - 1); err != nil {
					return err
				}
			}
		}
	case majorSimple:
		if h.info == indefinite {
			r.pos = start
			return ErrSyntax // a break with nothing to end
		}
	}
	return nil
}
