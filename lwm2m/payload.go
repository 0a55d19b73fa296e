package lwm2m

import (
	"fmt"
	"time"
)

// Entry is one value at one path, the unit that payloads are made of.
type Entry struct {
	Path Path
	// Value is of the type that the object's model gives the resource, or,
	// for a resource without model, of the type that the content format tells.
	Value Value
	// Time is when the value was so, for histories in Send and notifications.
	// The zero Time means now. Only SenML and the old JSON carry it.
	Time time.Time
}

// AppendPayload appends entries in content format f to dst and returns the
// extended slice; on error dst is returned as it was.
//
// base is the path of the request that the payload answers or makes: a
// resource for text, opaque and CBOR, the root for composites and Send. Every
// entry lies at or below it. Entries of one object instance and one multiple
// resource must follow each other.
//
// The model m decides what is a multiple resource and converts values to the
// types that resources have; nil stands for the built-in models, see [Models].
func AppendPayload(dst []byte, f ContentFormat, base Path, entries []Entry, m *Models) ([]byte, error) {
	for _, e := range entries {
		if !base.Contains(e.Path) {
			return dst, fmt.Errorf("%w: %s is not below %s", ErrNotEncodable, e.Path, base)
		}
	}
	switch f.Canonical() {
	default:
		return dst, fmt.Errorf("%w: %s", ErrUnsupportedFormat, f)
	}
}

// DecodePayload returns the entries of a payload in content format f, in
// their order. base is the path of the request, and entries elsewhere are
// refused. What the model m knows gets the type it has there, and what does
// not convert is refused; nil stands for the built-in models.
//
// Nothing of payload is kept. Errors are [*FormatError], which is
// [ErrMalformed], or [ErrUnsupportedFormat].
func DecodePayload(f ContentFormat, base Path, payload []byte, m *Models) ([]Entry, error) {
	switch f.Canonical() {
	default:
		return nil, fmt.Errorf("%w: %s", ErrUnsupportedFormat, f)
	}
}

// AppendPaths appends the body of a Read-Composite or Observe-Composite
// request for paths, in SenML JSON, SenML CBOR or LwM2M CBOR, to dst.
func AppendPaths(dst []byte, f ContentFormat, paths []Path) ([]byte, error) {
	switch f.Canonical() {
	default:
		return dst, fmt.Errorf("%w: %s", ErrUnsupportedFormat, f)
	}
}

// DecodePaths returns the paths of a Read-Composite or Observe-Composite
// request, in their order.
func DecodePaths(f ContentFormat, payload []byte) ([]Path, error) {
	switch f.Canonical() {
	default:
		return nil, fmt.Errorf("%w: %s", ErrUnsupportedFormat, f)
	}
}
