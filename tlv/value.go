package tlv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// The methods below read the value of an element as one of LwM2M's data types. An opaque value is
// Element.Value itself. Their errors are a *SyntaxError at the offset of the value, with ErrLength
// or ErrValue.

// Int reads an integer of 1, 2, 4 or 8 bytes, big-endian two's complement. A time is an integer
// too, in seconds since 1970. The error is [ErrLength].
func (e Element) Int() (int64, error) {
	switch v := e.Value; len(v) {
	case 1:
		return int64(int8(v[0])), nil
	case 2:
		return int64(int16(binary.BigEndian.Uint16(v))), nil
	case 4:
		return int64(int32(binary.BigEndian.Uint32(v))), nil
	case 8:
		return int64(binary.BigEndian.Uint64(v)), nil
	}
	return 0, e.bad(ErrLength)
}

// Uint reads an unsigned integer of 1, 2, 4 or 8 bytes. The error is [ErrLength].
func (e Element) Uint() (uint64, error) {
	switch v := e.Value; len(v) {
	case 1:
		return uint64(v[0]), nil
	case 2:
		return uint64(binary.BigEndian.Uint16(v)), nil
	case 4:
		return uint64(binary.BigEndian.Uint32(v)), nil
	case 8:
		return binary.BigEndian.Uint64(v), nil
	}
	return 0, e.bad(ErrLength)
}

// Float reads an IEEE 754 number of 4 or 8 bytes. The error is [ErrLength].
func (e Element) Float() (float64, error) {
	switch v := e.Value; len(v) {
	case 4:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(v))), nil
	case 8:
		return math.Float64frombits(binary.BigEndian.Uint64(v)), nil
	}
	return 0, e.bad(ErrLength)
}

// Bool reads a boolean: one byte, 0 or 1. The error is [ErrLength] or [ErrValue].
func (e Element) Bool() (bool, error) {
	if len(e.Value) != 1 {
		return false, e.bad(ErrLength)
	}
	if e.Value[0] > 1 {
		return false, e.bad(ErrValue)
	}
	return e.Value[0] == 1, nil
}

// Text reads a string or a core link as a copy. The error is [ErrValue] if it is not UTF-8.
func (e Element) Text() (string, error) {
	if !utf8.Valid(e.Value) {
		return "", e.bad(ErrValue)
	}
	return string(e.Value), nil
}

// ObjectLink reads a link to an object instance, 4 bytes; 65535, 65535 links to nothing. The error
// is [ErrLength].
func (e Element) ObjectLink() (object, instance uint16, err error) {
	if len(e.Value) != 4 {
		return 0, 0, e.bad(ErrLength)
	}
	return binary.BigEndian.Uint16(e.Value), binary.BigEndian.Uint16(e.Value[2:]), nil
}

func (e Element) bad(reason error) error { return &SyntaxError{int(e.offset), reason} }

// The categories of malformed input and of misuse of an [Encoder], for errors.Is.
var (
	// ErrTruncated: an element is longer than the input or than the element around it.
	ErrTruncated = errors.New("tlv: element exceeds the space it is in")
	// ErrNesting: an element of a kind that may not stand at its place.
	ErrNesting = errors.New("tlv: element of this kind not allowed here")
	// ErrReservedID: identifier 65535.
	ErrReservedID = errors.New("tlv: identifier 65535 is reserved")
	// ErrDuplicateID: two elements of one level have the same identifier.
	ErrDuplicateID = errors.New("tlv: duplicate identifier")
	// ErrLength: a value whose length its data type does not allow, or a value to encode that is
	// longer than [MaxLength].
	ErrLength = errors.New("tlv: bad value length")
	// ErrValue: a value that its data type does not allow.
	ErrValue = errors.New("tlv: bad value")
	// ErrUnbalanced: Begin without End, or End without Begin.
	ErrUnbalanced = errors.New("tlv: unbalanced Begin and End")
)

// SyntaxError says where a body is malformed and why.
type SyntaxError struct {
	// Offset is the position in bytes from the start of the input of [All] or [Validate]: the first
	// byte of the element, or of its value if only the value is wrong. For an [Encoder] it is where
	// the refused element would begin in its buffer.
	Offset int
	// Err is one of the Err variables of this package.
	Err error
}

// Error implements error.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%v at offset %d", e.Err, e.Offset) }

// Unwrap returns Err.
func (e *SyntaxError) Unwrap() error { return e.Err }
