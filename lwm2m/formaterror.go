package lwm2m

import (
	"errors"
	"fmt"
)

// The categories of what can go wrong with a payload. A client answers
// ErrUnsupportedFormat with 4.15 (or 4.06 when it concerns Accept) and
// ErrMalformed with 4.00.
var (
	// ErrUnsupportedFormat: the content format is unknown, or cannot carry
	// what lives at the path (text/plain of an object, for example).
	ErrUnsupportedFormat = errors.New("lwm2m: unsupported content format")
	// ErrMalformed: the payload is not what its content format, its path or
	// its object's model demand.
	ErrMalformed = errors.New("lwm2m: malformed payload")
	// ErrNotEncodable: a value, a path or a time that the content format
	// cannot represent was to be encoded.
	ErrNotEncodable = errors.New("lwm2m: not encodable")
)

// FormatError says where and why a payload was refused. It matches
// [ErrMalformed] with errors.Is, and what Err wraps.
type FormatError struct {
	Format ContentFormat
	Offset int    // of the byte in the payload at which the problem was noticed
	Reason string // what is wrong, in a few words
	Err    error  // the cause, from the package of the format; may be nil
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("lwm2m: malformed %s at offset %d: %s", e.Format, e.Offset, e.Reason)
}

// Unwrap returns [ErrMalformed] and, if there is one, Err.
func (e *FormatError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrMalformed}
	}
	return []error{ErrMalformed, e.Err}
}
