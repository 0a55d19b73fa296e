package senml

import (
	"errors"
	"strconv"
	"strings"
)

// The categories of what can be wrong with a pack. A [SyntaxError] wraps one of
// them, for errors.Is.
var (
	// ErrSyntax: not JSON, not CBOR, or not an array of maps.
	ErrSyntax = errors.New("senml: malformed pack")
	// ErrTruncated: the input ends before the pack does.
	ErrTruncated = errors.New("senml: input ends before the pack does")
	// ErrTrailing: something follows the pack.
	ErrTrailing = errors.New("senml: data after the end of the pack")
	// ErrType: a field of another type than its label demands.
	ErrType = errors.New("senml: field has the wrong type")
	// ErrNumber: a number that float64 cannot hold even approximately, NaN or an
	// infinity.
	ErrNumber = errors.New("senml: number out of range")
	// ErrLabel: a label twice in one record, or an integer label, or the text
	// form of one, that RFC 8428 does not define for CBOR.
	ErrLabel = errors.New("senml: bad or duplicate label")
	// ErrMustUnderstand: an unknown label that ends in "_".
	ErrMustUnderstand = errors.New("senml: unknown label that must be understood")
	// ErrVersion: a version above [MaxVersion], or two versions in one pack.
	ErrVersion = errors.New("senml: unsupported version")
	// ErrValue: a record with no value and no sum, with several values, or with
	// one that this kind of pack does not have.
	ErrValue = errors.New("senml: record must have exactly one value")
	// ErrName: the base name and name of a record make no valid name.
	ErrName = errors.New("senml: bad name")
	// ErrTooLarge: more than [Codec.MaxRecords] records, names that take more than
	// 32 times the pack after joining, or an unknown field that nests too deep.
	ErrTooLarge = errors.New("senml: pack too large")
)

// SyntaxError says where a pack is malformed and why.
type SyntaxError struct {
	// Offset is where, in bytes from the start of the input; -1 when the records
	// did not come from one (Append and Resolve).
	Offset int
	// Record is the index of the record in the pack, from 0; -1 outside of any.
	Record int
	// Err is the category, one of the Err variables of this package.
	Err error
}

// Error implements error.
func (e *SyntaxError) Error() string {
	var b strings.Builder
	b.WriteString("senml: ")
	if e.Record >= 0 {
		b.WriteString("record ")
		b.WriteString(strconv.Itoa(e.Record))
		b.WriteString(": ")
	}
	if e.Offset >= 0 {
		b.WriteString("offset ")
		b.WriteString(strconv.Itoa(e.Offset))
		b.WriteString(": ")
	}
	b.WriteString(strings.TrimPrefix(e.Err.Error(), "senml: "))
	return b.String()
}

// Unwrap returns the category.
func (e *SyntaxError) Unwrap() error { return e.Err }
