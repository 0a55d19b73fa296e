package tlv

import (
	"io"
	"iter"
)

// kindSet is a set of kinds, a bit for each: those that may stand at a place.
// Elements of different levels do not mix, so that the kind of one element says
// which can stand beside it.
type kindSet uint8

const (
	noKind  kindSet = 1 << 6 // nothing more, after an error
	aValue  kindSet = 1 << 7 // no place for elements at all
	anyKind kindSet = 1<<ObjectInstance | 1<<ResourceInstance | 1<<MultipleResource | 1<<Resource
)

func (s kindSet) has(k Kind) bool { return s>>k&1 != 0 }

// isValue reports whether elements of kind k hold a value rather than elements.
// Those kinds are odd.
func isValue(k Kind) bool { return k&1 != 0 }

var (
	// beside has the kinds that can be siblings of each kind; for what is no kind,
	// a set that no place ever has.
	beside = func() (t [256]kindSet) {
		for k := range t {
			t[k] = 1 << 5
		}
		t[ObjectInstance] = 1 << ObjectInstance
		t[ResourceInstance] = 1 << ResourceInstance
		t[MultipleResource] = 1<<MultipleResource | 1<<Resource
		t[Resource] = t[MultipleResource]
		return t
	}()
	// inside has the kinds that can be children.
	inside = [4]kindSet{
		ObjectInstance:   1<<MultipleResource | 1<<Resource,
		ResourceInstance: aValue,
		MultipleResource: 1 << ResourceInstance,
		Resource:         aValue,
	}
)

// Element is one element of a body.
type Element struct {
	// Value is a view of the input: the bytes of the value, or for an
	// ObjectInstance or MultipleResource the children, still encoded.
	Value []byte
	ID    uint16 // 0 to MaxID
	Kind  Kind

	offset uint32 // of Value; the struct stays within four words, which is fast
}

// Offset returns where Value begins, in bytes from the start of the outermost
// input (modulo 4 GiB).
func (e Element) Offset() int { return int(e.offset) }

// Children iterates over the elements inside an [ObjectInstance] or
// [MultipleResource], as [All] does. A [Resource] or [ResourceInstance] has
// none: iterating yields [ErrNesting].
func (e Element) Children() iter.Seq2[Element, error] { return e.Decoder().All() }

// Decoder returns a decoder of the element's children.
func (e Element) Decoder() Decoder {
	return Decoder{rest: e.Value, offset: e.offset, kinds: inside[e.Kind&3]}
}

// Decoder steps through the elements of one level. Make one with [NewDecoder]
// or [Element.Decoder]. It is a small value that may be copied; the copies
// continue independently.
type Decoder struct {
	rest   []byte
	offset uint32  // of rest in the outermost input
	kinds  kindSet // that may come next
}

// NewDecoder returns a decoder of the elements at the top level of data. The
// top level may consist of object instances, of resources (multiple or not) or
// of resource instances, by the path of the request; the first element decides.
func NewDecoder(data []byte) Decoder { return Decoder{rest: data, kinds: anyKind} }

// Next returns the next element, or io.EOF after the last. Any other error is
// a [*SyntaxError]; the decoder then stays where it is.
func (d *Decoder) Next() (Element, error) {
	// Nearly every element has an identifier below 256 and less than 8 bytes.
	b := d.rest
	if len(b) < 2 {
		return d.next()
	}
	t := b[0]
	k, n := Kind(t>>6), 2+int(t&7)
	if t&(wideID|lengthSize24) != 0 || n > len(b) || !d.kinds.has(k) {
		return d.next()
	}
	at := d.offset
	d.rest = b[n:]
	d.offset = at + uint32(n)
	d.kinds = beside[k]
	return Element{Value: b[2:n:n], ID: uint16(b[1]), Kind: k, offset: at + 2}, nil
}

// next is Next for any element.
func (d *Decoder) next() (Element, error) {
	if len(d.rest) == 0 && d.kinds&aValue == 0 {
		return Element{}, io.EOF
	}
	h, size, reason := parseHeader(d.rest)
	switch {
	case d.kinds&aValue != 0:
		reason = ErrNesting
	case reason != nil:
	case !d.kinds.has(h.Kind):
		reason = ErrNesting
	case h.Length > len(d.rest)-size:
		reason = ErrTruncated
	}
	if reason != nil {
		return Element{}, &SyntaxError{int(d.offset), reason}
	}
	n, at := size+h.Length, d.offset
	value := d.rest[size:n:n]
	d.rest = d.rest[n:]
	d.offset = at + uint32(n)
	d.kinds = beside[h.Kind]
	return Element{Value: value, ID: h.ID, Kind: h.Kind, offset: at + uint32(size)}, nil
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
