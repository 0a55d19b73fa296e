package tlv

import (
	"encoding/binary"
	"math"
)

// Encoder appends elements to a buffer, each in its shortest form. The zero Encoder starts a buffer
// of its own; [NewEncoder] appends to the caller's.
//
// After the first error all calls do nothing, and [Encoder.Bytes] returns the error. An Encoder
// checks nesting as strictly as [All], and refuses identifier 65535 and values longer than
// [MaxLength]. It does not look for duplicate identifiers. It is not safe for concurrent use.
type Encoder struct {
	buf   []byte
	err   error
	kinds kindSet // that may come next; 0 before the first
	depth int8
	open  [2]container // what Begin opened, outermost first
}

// container is an element before its End.
type container struct {
	start int // offset of its header
	kind  Kind
	id    uint16
}

// NewEncoder returns an Encoder that appends to dst.
func NewEncoder(dst []byte) Encoder { return Encoder{buf: dst, kinds: anyKind} }

// Bytes returns the buffer and the first error, a [*SyntaxError]. After an error the buffer ends
// with the output of the last call that succeeded.
func (e *Encoder) Bytes() ([]byte, error) {
	if e.depth > 0 {
		e.fail(ErrUnbalanced)
	}
	return e.buf, e.err
}

// Begin opens an [ObjectInstance] or a [MultipleResource]. The elements that follow are inside it
// until [Encoder.End].
func (e *Encoder) Begin(k Kind, id uint16) {
	if isValue(k) {
		e.fail(ErrNesting)
		return
	}
	if (e.kinds != beside[k] || id > MaxID) && !e.mayBegin(k, id, 0) {
		return
	}
	start := len(e.buf)
	if id <= 0xff {
		e.buf = append(e.buf, byte(k)<<6, byte(id))
	} else {
		e.buf = appendHeader(e.buf, k, id, 0)
	}
	// The elements inside nest no deeper, so open has room.
	e.open[e.depth&1] = container{start, k, id}
	e.depth++
	e.kinds = inside[k]
}

// End closes the element that the last Begin opened.
func (e *Encoder) End() {
	if e.err != nil {
		return
	}
	if e.depth == 0 {
		e.fail(ErrUnbalanced)
		return
	}
	e.depth--
	c := e.open[e.depth&1]
	e.kinds = beside[c.kind]
	// Begin wrote the header of an empty element, which is the shortest.
	if n := len(e.buf) - c.start - 2; c.id <= 0xff && n < 8 {
		e.buf[c.start] |= byte(n)
	} else {
		e.insertLength(c)
	}
}

// insertLength moves the content of c up by the 1 to 3 bytes that its length needs.
func (e *Encoder) insertLength(c container) {
	before := headerSize(c.id, 0)
	n := len(e.buf) - c.start - before
	if n > MaxLength {
		e.fail(ErrLength)
		return
	}
	grow := headerSize(c.id, n) - before
	e.buf = append(e.buf, 0, 0, 0)[:len(e.buf)+grow]
	body := e.buf[c.start+before:]
	copy(body[grow:], body[:n])
	appendHeader(e.buf[:c.start], c.kind, c.id, n)
}

// Opaque appends the bytes of v.
func (e *Encoder) Opaque(k Kind, id uint16, v []byte) {
	if e.header(k, id, len(v)) {
		e.buf = append(e.buf, v...)
	}
}

// Text appends a string or a core link (LwM2M's Corelnk). It does not check that v is UTF-8.
func (e *Encoder) Text(k Kind, id uint16, v string) {
	if e.header(k, id, len(v)) {
		e.buf = append(e.buf, v...)
	}
}

// Int appends an integer, or a time in seconds since 1970, in the fewest of 1, 2, 4 or 8 bytes.
func (e *Encoder) Int(k Kind, id uint16, v int64) {
	switch {
	case v == int64(int8(v)):
		e.short1(k, id, byte(v))
	case v == int64(int16(v)):
		e.short2(k, id, uint16(v))
	case v == int64(int32(v)):
		if e.header(k, id, 4) {
			e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(v))
		}
	default:
		if e.header(k, id, 8) {
			e.buf = binary.BigEndian.AppendUint64(e.buf, uint64(v))
		}
	}
}

// Uint appends an unsigned integer in the fewest of 1, 2, 4 or 8 bytes.
func (e *Encoder) Uint(k Kind, id uint16, v uint64) {
	switch {
	case v <= math.MaxUint8:
		e.short1(k, id, byte(v))
	case v <= math.MaxUint16:
		e.short2(k, id, uint16(v))
	case v <= math.MaxUint32:
		if e.header(k, id, 4) {
			e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(v))
		}
	default:
		if e.header(k, id, 8) {
			e.buf = binary.BigEndian.AppendUint64(e.buf, v)
		}
	}
}

// Float appends a float in 4 bytes if they hold it exactly, and in 8 otherwise. A NaN takes 4.
func (e *Encoder) Float(k Kind, id uint16, v float64) {
	if f := float32(v); float64(f) == v || v != v {
		if e.header(k, id, 4) {
			e.buf = binary.BigEndian.AppendUint32(e.buf, math.Float32bits(f))
		}
		return
	}
	if e.header(k, id, 8) {
		e.buf = binary.BigEndian.AppendUint64(e.buf, math.Float64bits(v))
	}
}

// Bool appends a boolean.
func (e *Encoder) Bool(k Kind, id uint16, v bool) {
	var b byte
	if v {
		b = 1
	}
	e.short1(k, id, b)
}

// ObjectLink appends a link to an object instance; 65535, 65535 links to nothing.
func (e *Encoder) ObjectLink(k Kind, id, object, instance uint16) {
	if e.header(k, id, 4) {
		e.buf = append(e.buf, byte(object>>8), byte(object), byte(instance>>8), byte(instance))
	}
}

// short1 appends a value of one byte.
func (e *Encoder) short1(k Kind, id uint16, v byte) {
	if id <= 0xff && e.kinds == beside[k] && isValue(k) {
		e.buf = append(e.buf, byte(k)<<6|1, byte(id), v)
	} else if e.header(k, id, 1) {
		e.buf = append(e.buf, v)
	}
}

// short2 appends a value of two bytes.
func (e *Encoder) short2(k Kind, id uint16, v uint16) {
	if id <= 0xff && e.kinds == beside[k] && isValue(k) {
		e.buf = append(e.buf, byte(k)<<6|2, byte(id), byte(v>>8), byte(v))
	} else if e.header(k, id, 2) {
		e.buf = append(e.buf, byte(v>>8), byte(v))
	}
}

// header appends the header of a value, and reports whether the value may follow.
func (e *Encoder) header(k Kind, id uint16, n int) bool {
	if !isValue(k) {
		e.fail(ErrNesting)
		return false
	}
	if (e.kinds != beside[k] || id > MaxID || n > MaxLength) && !e.mayBegin(k, id, n) {
		return false
	}
	if id <= 0xff && n < 8 {
		e.buf = append(e.buf, byte(k)<<6|byte(n), byte(id))
	} else if id <= 0xff && n <= 0xff {
		e.buf = append(e.buf, byte(k)<<6|lengthSize8, byte(id), byte(n))
	} else {
		e.buf = appendHeader(e.buf, k, id, n)
	}
	return true
}

// mayBegin fails if the element may not stand here. It accepts the first element of a level.
func (e *Encoder) mayBegin(k Kind, id uint16, n int) bool {
	if e.kinds == 0 {
		e.kinds = anyKind // not made by NewEncoder
	}
	switch {
	case e.err != nil:
	case !e.kinds.has(k):
		e.fail(ErrNesting)
	case id > MaxID:
		e.fail(ErrReservedID)
	case n > MaxLength:
		e.fail(ErrLength)
	default:
		e.kinds = beside[k]
		return true
	}
	return false
}

func (e *Encoder) fail(reason error) {
	if e.err == nil {
		e.err = &SyntaxError{len(e.buf), reason}
	}
	e.kinds = noKind
}
