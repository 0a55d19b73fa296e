package tlv

import (
	"io"
	"iter"
)

// level says which kinds may stand side by side. Elements of different levels
// do not mix.
type level uint8

const (
	anyLevel      level = iota // top level, before its first element
	instanceLevel              // ObjectInstance
	resourceLevel              // Resource, MultipleResource
	leafLevel                  // ResourceInstance
	noLevel                    // inside a value: nothing
)

// levelOf is the level that an element of kind k belongs to.
func levelOf(k Kind) level {
	switch k {
	case ObjectInstance:
		return instanceLevel
	case ResourceInstance:
		return leafLevel
	default:
		return resourceLevel
	}
}

// inside is the level of the children of an element of kind k.
func inside(k Kind) level {
	switch k {
	case ObjectInstance:
		return resourceLevel
	case MultipleResource:
		return leafLevel
	default:
		return noLevel
	}
}

// Element is one element of a body.
type Element struct {
	Kind Kind
	ID   uint16 // 0 to MaxID
	// Offset is where the element's header begins, from the start of the
	// outermost input.
	Offset int
	// Value is a view of the input: the bytes of the value, or for an
	// ObjectInstance or MultipleResource the children, still encoded.
	Value []byte

	valueOffset int
}

// Children iterates over the elements inside an [ObjectInstance] or
// [MultipleResource], as [All] does. A [Resource] or [ResourceInstance] has
// none: iterating yields [ErrNesting].
func (e Element) Children() iter.Seq2[Element, error] { return e.Decoder().All() }

// Decoder returns a decoder of the element's children.
func (e Element) Decoder() Decoder {
	return Decoder{data: e.Value, base: e.valueOffset, level: inside(e.Kind)}
}

// Decoder steps through the elements of one level. Make one with [NewDecoder]
// or [Element.Decoder]. It is a small value that may be copied; the copies
// continue independently.
type Decoder struct {
	data  []byte
	pos   int
	base  int // offset of data in the outermost input
	level level
}

// NewDecoder returns a decoder of the elements at the top level of data. The
// top level may consist of object instances, of resources (multiple or not) or
// of resource instances, by the path of the request; the first element decides.
func NewDecoder(data []byte) Decoder { return Decoder{data: data} }

// Next returns the next element, or io.EOF after the last. Any other error is
// a [*SyntaxError]; the decoder then stays where it is.
func (d *Decoder) Next() (Element, error) {
	if d.pos == len(d.data) && d.level != noLevel {
		return Element{}, io.EOF
	}
	h, size, reason := parseHeader(d.data[d.pos:])
	if d.level != levelOf(h.Kind) && reason == nil {
		if d.level == anyLevel {
			d.level = levelOf(h.Kind)
		} else {
			reason = ErrNesting
		}
	}
	if d.level == noLevel {
		reason = ErrNesting
	}
	if reason == nil && h.Length > len(d.data)-d.pos-size {
		reason = ErrTruncated
	}
	if reason != nil {
		return Element{}, &SyntaxError{d.base + d.pos, reason}
	}
	start := d.pos + size
	e := Element{
		Kind:        h.Kind,
		ID:          h.ID,
		Offset:      d.base + d.pos,
		Value:       d.data[start : start+h.Length : start+h.Length],
		valueOffset: d.base + start,
	}
	d.pos = start + h.Length
	return e, nil
}

// All iterates over the elements that are left, without moving d. An error is
// a [*SyntaxError] and ends the iteration.
func (d Decoder) All() iter.Seq2[Element, error] {
	return func(yield func(Element, error) bool) {
		for {
			e, err := d.Next()
			if err == io.EOF || !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// All iterates over the elements at the top level of data; see [NewDecoder].
func All(data []byte) iter.Seq2[Element, error] { return NewDecoder(data).All() }
