package tlv

import (
	"errors"
	"strconv"
	"strings"
)

// The categories of malformed input and of misuse of an [Encoder]. A
// [SyntaxError] wraps one of them, for errors.Is.
var (
	// ErrTruncated: an element is longer than the input or than the element
	// around it.
	ErrTruncated = errors.New("tlv: element exceeds the space it is in")
	// ErrNesting: an element of a kind that its place does not allow.
	ErrNesting = errors.New("tlv: element of this kind not allowed here")
	// ErrReservedID: identifier 65535.
	ErrReservedID = errors.New("tlv: identifier 65535 is reserved")
	// ErrDuplicateID: two elements of one level with the same identifier.
	ErrDuplicateID = errors.New("tlv: duplicate identifier")
	// ErrLength: a value of a length that its data type does not have, or, when
	// encoding, one beyond [MaxLength].
	ErrLength = errors.New("tlv: bad value length")
	// ErrValue: a value that its data type does not have.
	ErrValue = errors.New("tlv: bad value")
	// ErrUnbalanced: Begin without End, or End without Begin.
	ErrUnbalanced = errors.New("tlv: unbalanced Begin and End")
)

// SyntaxError says where a body is malformed and why.
type SyntaxError struct {
	// Offset is where, in bytes from the start of the input given to [All],
	// [NewDecoder], [Validate] or [ParseHeader]: the first byte of the element
	// at fault, or of its value when that is what is wrong. For an [Encoder] it
	// is the offset in its buffer at which the refused element would begin.
	Offset int
	// Err is the category, one of the Err variables of this package.
	Err error
}

// Error implements error.
func (e *SyntaxError) Error() string {
	return "tlv: offset " + strconv.Itoa(e.Offset) + ": " + strings.TrimPrefix(e.Err.Error(), "tlv: ")
}

// Unwrap returns the category.
func (e *SyntaxError) Unwrap() error { return e.Err }
