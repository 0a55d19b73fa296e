package tlv

import "strconv"

// Kind is the kind of an element, bits 7 and 6 of its type byte.
type Kind uint8

// The kinds, with the values they have on the wire.
const (
	ObjectInstance   Kind = 0 // holds Resource and MultipleResource elements
	ResourceInstance Kind = 1 // a value inside a MultipleResource
	MultipleResource Kind = 2 // holds ResourceInstance elements
	Resource         Kind = 3 // a value
)

// String returns the kind's name in words, such as "object instance".
func (k Kind) String() string {
	switch k {
	case ObjectInstance:
		return "object instance"
	case ResourceInstance:
		return "resource instance"
	case MultipleResource:
		return "multiple resource"
	case Resource:
		return "resource"
	}
	return "kind " + strconv.Itoa(int(k))
}

const (
	// MaxID is the largest identifier an element can have; 65535 is reserved.
	MaxID = 65534
	// MaxLength is the largest length of a value, in bytes.
	MaxLength = 1<<24 - 1
)

// header is what precedes the value of an element.
type header struct {
	kind   Kind
	id     uint16 // 0 to MaxID
	length int    // of the value, in bytes, 0 to MaxLength
}

const (
	wideID = 1 << 5 // type byte: the identifier has 16 bits

	lengthSize8  = 1 << 3 // type byte: size of the length field
	lengthSize16 = 2 << 3
	lengthSize24 = 3 << 3
)

func appendHeader(dst []byte, k Kind, id uint16, n int) []byte {
	t := byte(k) << 6
	if id <= 0xff && n < 8 { // nearly every element
		return append(dst, t|byte(n), byte(id))
	}
	if id > 0xff {
		t |= wideID
	}
	switch {
	case n < 8:
		t |= byte(n)
	case n <= 0xff:
		t |= lengthSize8
	case n <= 0xffff:
		t |= lengthSize16
	default:
		t |= lengthSize24
	}
	dst = append(dst, t)
	if id > 0xff {
		dst = append(dst, byte(id>>8))
	}
	dst = append(dst, byte(id))
	switch {
	case n < 8:
	case n <= 0xff:
		dst = append(dst, byte(n))
	case n <= 0xffff:
		dst = append(dst, byte(n>>8), byte(n))
	default:
		dst = append(dst, byte(n>>16), byte(n>>8), byte(n))
	}
	return dst
}

// headerSize is the size of the shortest header.
func headerSize(id uint16, n int) int {
	size := 2
	if id > 0xff {
		size++
	}
	switch {
	case n < 8:
	case n <= 0xff:
		size++
	case n <= 0xffff:
		size += 2
	default:
		size += 3
	}
	return size
}

// parseHeader reads the header at the start of b, and returns it with its size. The error is a bare
// category.
func parseHeader(b []byte) (header, int, error) {
	if len(b) < 2 {
		return header{}, 0, ErrTruncated
	}
	t := b[0]
	h := header{kind: Kind(t >> 6), id: uint16(b[1]), length: int(t & 7)}
	if t&(wideID|lengthSize24) == 0 {
		return h, 2, nil
	}
	size := 2
	if t&wideID != 0 {
		if len(b) < 3 {
			return header{}, 0, ErrTruncated
		}
		h.id = h.id<<8 | uint16(b[2])
		if h.id > MaxID {
			return header{}, 0, ErrReservedID
		}
		size = 3
	}
	if width := int(t >> 3 & 3); width > 0 {
		if len(b) < size+width {
			return header{}, 0, ErrTruncated
		}
		h.length = 0
		for _, c := range b[size : size+width] {
			h.length = h.length<<8 | int(c)
		}
		size += width
	}
	return h, size, nil
}
