package senml

import (
	"errors"
	"fmt"
)

// The categories of errors in a pack, for errors.Is.
var (
	// ErrSyntax: not JSON, not CBOR, or not an array of maps.
	ErrSyntax = errors.New("senml: malformed pack")
	// ErrTruncated: the input ends before the pack does.
	ErrTruncated = errors.New("senml: input ends before the pack does")
	// ErrTrailing: something follows the pack.
	ErrTrailing = errors.New("senml: data after the end of the pack")
	// ErrType: a field of another type than its label demands.
	ErrType = errors.New("senml: field has the wrong type")
	// ErrNumber: NaN, an infinity, or a number beyond the range of float64.
	ErrNumber = errors.New("senml: number out of range")
	// ErrLabel: a label twice in one record, or in CBOR an integer label that RFC 8428 does not
	// define, or the text form of one that it defines.
	ErrLabel = errors.New("senml: bad or duplicate label")
	// ErrMustUnderstand: an unknown label that ends in "_".
	ErrMustUnderstand = errors.New("senml: unknown label that must be understood")
	// ErrVersion: a version above 10, or two versions in one pack.
	ErrVersion = errors.New("senml: unsupported version")
	// ErrValue: a record with no value and no sum, with several values, or with a value that this
	// kind of pack does not have.
	ErrValue = errors.New("senml: record must have exactly one value")
	// ErrName: the base name and name of a record together are no valid name.
	ErrName = errors.New("senml: bad name")
	// ErrTooLarge: more than [Codec.MaxRecords] records, names that with their base names take more
	// than 32 times the size of the pack, or an unknown field that nests too deep.
	ErrTooLarge = errors.New("senml: pack too large")
)

// SyntaxError says where a pack is malformed and why.
type SyntaxError struct {
	// Offset is the position in bytes from the start of the input; -1 in an error of Append and
	// Resolve.
	Offset int
	// Record is the index of the record in the pack, from 0; -1 outside of any record.
	Record int
	// Err is one of the Err variables of this package.
	Err error
}

// Error implements error.
func (e *SyntaxError) Error() string {
	switch {
	case e.Record >= 0 && e.Offset >= 0:
		return fmt.Sprintf("%v at offset %d, in record %d", e.Err, e.Offset, e.Record)
	case e.Record >= 0:
		return fmt.Sprintf("%v in record %d", e.Err, e.Record)
	case e.Offset >= 0:
		return fmt.Sprintf("%v at offset %d", e.Err, e.Offset)
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *SyntaxError) Unwrap() error { return e.Err }
