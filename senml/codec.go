package senml

import (
	"errors"
	"fmt"
	"slices"
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

// Codec encodes and decodes packs. The zero Codec is for RFC 8428. A Codec is a plain value, safe
// for concurrent use.
type Codec struct {
	// LwM2M selects the rules of OMA LwM2M 1.1 and 1.2 (Core, section 7.4.5): a name is a path of
	// one to four identifiers, each 0 to 65534, with a leading slash (or "/" alone, in a Fetch
	// pack); a value needs at least three. The value field "vlo" holds an object link. A Fetch pack
	// with values, sums or times is refused; RFC 8790 drops them. Default: false.
	LwM2M bool

	// Root is the beginning of all names, before the path, for LwM2M with an alternate path:
	// "/lwm2m" for "/lwm2m/3/0/9". It stays part of the names. It may have ASCII characters except
	// control characters, quotes and backslashes; with others every name is bad. Default: none.
	Root string

	// Pack is the kind of pack. Default: [Measurements].
	Pack Pack

	// MaxRecords limits the records of a pack to decode; a larger pack is refused with
	// [ErrTooLarge]. Default (0 or less): 10000.
	MaxRecords int
}

// Pack is a kind of pack.
type Pack uint8

const (
	// Measurements is a pack of RFC 8428: each record has one value, or a sum, or only base fields.
	Measurements Pack = iota
	// Fetch is the body of a FETCH request (RFC 8790, section 3.1; LwM2M's Read-Composite and
	// Observe-Composite): records are names, with a time and unit if those matter. Decoding drops
	// other fields.
	Fetch
	// Patch is the body of a PATCH or iPATCH request (RFC 8790, section 3.2; LwM2M's
	// Write-Composite in formats 320 and 322): like Measurements, but a value may be [Null], which
	// removes what the record names.
	Patch
)

const (
	defaultMaxRecords = 10000
	maxDepth          = 16 // of an unknown field
)

func (c *Codec) maxRecords() int {
	if c.MaxRecords > 0 {
		return c.MaxRecords
	}
	return defaultMaxRecords
}

// room is the place for decoded records: the end of the caller's slice. When it is full, room grows
// it by as many records as should follow if they are like those before, and does not trust a count
// that the pack claims.
type room struct {
	typical int  // bytes of a record, as a first guess
	limit   int  // records that the pack can have at most
	zeroed  bool // the memory beyond the records was allocated here, so it is zero
	n, pos  int  // records and bytes when room last grew
}

// next appends an empty record to dst, of which n records and pos bytes of size were read before.
func (m *room) next(dst []Record, n, pos, size int) []Record {
	if len(dst) == cap(dst) {
		const first = 32
		more := min(size/m.typical+1, first)
		if n > 0 {
			more = int(int64(size-pos)*int64(n-m.n)/int64(pos-m.pos)) + n/16 + 1
			more += more / 8 // if this is too little, all must be copied again
		}
		dst = slices.Grow(dst, max(1, min(more, m.limit-n)))
		m.zeroed = true
		m.n, m.pos = n, pos
	}
	dst = dst[:len(dst)+1]
	if !m.zeroed {
		dst[len(dst)-1] = Record{}
	}
	return dst
}
