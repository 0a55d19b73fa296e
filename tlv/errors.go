package tlv

import (
	"errors"
	"fmt"
)

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
