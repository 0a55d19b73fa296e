// Package cbor reads and writes the part of CBOR (RFC 8949) that senml and lwm2m need.
//
// A Reader never allocates for a length that the input only claims, and bounds how deep it follows
// nested items. Its errors are bare categories; Pos is then at the item that is at fault. The
// append functions write definite lengths and the shortest form, and allocate only what append
// needs.
package cbor

import (
	"errors"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// The categories of errors.
var (
	ErrSyntax    = errors.New("malformed CBOR")
	ErrTruncated = errors.New("input ends early")
	ErrType      = errors.New("item has the wrong type")
	ErrRange     = errors.New("number out of range")
	ErrDepth     = errors.New("nested too deep")
)

// The major types (RFC 8949, section 3.1), shifted into place.
const (
	Uint   = 0 << 5
	NegInt = 1 << 5
	Bytes  = 2 << 5
	Text   = 3 << 5
	Array  = 4 << 5
	Map    = 5 << 5
	Tag    = 6 << 5
	Simple = 7 << 5
)

// Items of one byte.
const (
	False = Simple | 20
	True  = Simple | 21
	Null  = Simple | 22

	half       = Simple | 25
	single     = Simple | 26
	double     = Simple | 27
	breakByte  = Simple | 31
	indefinite = 31 // as Head.Info
)

// Tags of values (RFC 8949, section 3.4).
const (
	TagDateTime = 0
	TagEpoch    = 1
	TagDecimal  = 4
)

// Reader reads items. The strings that it returns are slices of S, unless they come in pieces.
type Reader struct {
	S   string
	Pos int // of the next byte
}

// Head is the head of an item. The Arg of an indefinite length is 0.
type Head struct {
	At    int  // where the item begins
	Major byte // Uint to Simple
	Info  byte // the low five bits
	Arg   uint64
}

// Indefinite reports whether the item goes on to a break.
func (h Head) Indefinite() bool { return h.Info == indefinite }

// Head reads a head. It refuses a break. On an error Pos stays.
func (r *Reader) Head() (Head, error) {
	if r.Pos == len(r.S) {
		return Head{}, ErrTruncated
	}
	c := r.S[r.Pos]
	h := Head{At: r.Pos, Major: c & 0xe0, Info: c & 0x1f}
	if h.Info < 24 {
		h.Arg = uint64(h.Info)
		r.Pos++
		return h, nil
	}
	if h.Info > 27 {
		if h.Info != indefinite || h.Major < Bytes || h.Major > Map {
			return Head{}, ErrSyntax
		}
		r.Pos++
		return h, nil
	}
	size := 1 << (h.Info - 24)
	if len(r.S)-r.Pos-1 < size {
		return Head{}, ErrTruncated
	}
	for i := r.Pos + 1; i <= r.Pos+size; i++ {
		h.Arg = h.Arg<<8 | uint64(r.S[i])
	}
	if h.Major == Simple && h.Info == 24 && h.Arg < 32 {
		return Head{}, ErrSyntax // RFC 8949, section 3.3
	}
	r.Pos += 1 + size
	return h, nil
}

// More reports whether another item of a container follows, of which n were read. It consumes the
// break of an indefinite one, and leaves the end of the input to the next read.
func (r *Reader) More(h Head, n uint64) bool {
	if h.Info != indefinite {
		return n < h.Arg
	}
	if r.Pos < len(r.S) && r.S[r.Pos] == breakByte {
		r.Pos++
		return false
	}
	return true
}

// Text reads a text string.
func (r *Reader) Text() (string, error) {
	start := r.Pos
	if start < len(r.S) { // a short one, as nearly all are
		n := int(r.S[start] ^ Text)
		if end := start + 1 + n; n < 24 && end <= len(r.S) {
			s := r.S[start+1 : end]
			if isASCII(s) || utf8.ValidString(s) {
				r.Pos = end
				return s, nil
			}
		}
	}
	return r.str(Text)
}

// Bytes reads a byte string.
func (r *Reader) Bytes() (string, error) { return r.str(Bytes) }

func isASCII(s string) bool {
	var or byte
	for i := range len(s) {
		or |= s[i]
	}
	return or < utf8.RuneSelf
}

func (r *Reader) str(major byte) (string, error) {
	h, err := r.Head()
	if err != nil {
		return "", err
	}
	if h.Major != major {
		return "", r.Mistyped(h)
	}
	return r.Content(h)
}

// Content reads the content of the string whose head is h.
func (r *Reader) Content(h Head) (string, error) {
	if h.Info != indefinite {
		return r.piece(h)
	}
	var pieces strings.Builder
	for r.More(h, 0) {
		p, err := r.Head()
		if err != nil {
			return "", err
		}
		if p.Major != h.Major || p.Indefinite() {
			r.Pos = p.At
			return "", ErrSyntax
		}
		piece, err := r.piece(p)
		if err != nil {
			return "", err
		}
		pieces.WriteString(piece)
	}
	return pieces.String(), nil
}

// piece returns the content of a string of definite length.
func (r *Reader) piece(h Head) (string, error) {
	if h.Arg > uint64(len(r.S)-r.Pos) {
		r.Pos = h.At
		return "", ErrTruncated
	}
	s := r.S[r.Pos : r.Pos+int(h.Arg)]
	if h.Major == Text && !utf8.ValidString(s) {
		r.Pos = h.At
		return "", ErrSyntax
	}
	r.Pos += int(h.Arg)
	return s, nil
}

// Float returns the float whose head is h, and whether it is one.
func (h Head) Float() (float64, bool) {
	switch h.Major | h.Info {
	case half:
		return fromHalf(uint16(h.Arg)), true
	case single:
		return float64(math.Float32frombits(uint32(h.Arg))), true
	case double:
		return math.Float64frombits(h.Arg), true
	}
	return 0, false
}

// Int returns the integer whose head is h: ErrType if it is none, ErrRange if it needs more than 64
// bits.
func (h Head) Int() (int64, error) {
	switch {
	case h.Major > NegInt:
		return 0, ErrType
	case h.Arg > math.MaxInt64:
		return 0, ErrRange
	case h.Major == NegInt:
		return -1 - int64(h.Arg), nil
	}
	return int64(h.Arg), nil
}

// Decimal reads what follows TagDecimal: [exponent, mantissa].
func (r *Reader) Decimal() (exp, mantissa int64, err error) {
	h, err := r.Head()
	if err != nil {
		return 0, 0, err
	}
	if h.Major != Array || !h.Indefinite() && h.Arg != 2 {
		return 0, 0, r.Mistyped(h)
	}
	var parts [2]int64
	var outside error
	for i := range parts {
		p, err := r.Head()
		if err != nil {
			return 0, 0, err
		}
		if parts[i], err = p.Int(); err == ErrType { // a bignum among others
			return 0, 0, r.Mistyped(h)
		} else if err != nil {
			outside = err
		}
	}
	if h.Indefinite() && r.More(h, 0) {
		return 0, 0, r.Mistyped(h)
	}
	return parts[0], parts[1], outside
}

// DateTime reads what follows TagDateTime. A text that is no date is out of range.
func (r *Reader) DateTime() (time.Time, error) {
	start := r.Pos
	s, err := r.Text()
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		r.Pos = start
		return time.Time{}, ErrRange
	}
	return t, nil
}

// maxDepth is how deep an item of the wrong type may nest.
const maxDepth = 16

// Mistyped goes back to the item whose head is h, and returns ErrType if it is well-formed, else
// what is wrong with it.
func (r *Reader) Mistyped(h Head) error {
	r.Pos = h.At
	if err := r.Skip(maxDepth); err != nil {
		return err
	}
	r.Pos = h.At
	return ErrType
}

// Skip passes over any item, which may nest depth levels.
func (r *Reader) Skip(depth int) error {
	h, err := r.Head()
	if err != nil {
		return err
	}
	switch h.Major {
	case Bytes, Text:
		_, err := r.Content(h)
		return err
	case Array, Map, Tag:
		if depth == 0 {
			r.Pos = h.At
			return ErrDepth
		}
		if h.Major == Tag {
			return r.Skip(depth - 1)
		}
		for n := uint64(0); r.More(h, n); n++ {
			if err := r.Skip(depth - 1); err != nil {
				return err
			}
			if h.Major == Map {
				if err := r.Skip(depth - 1); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
