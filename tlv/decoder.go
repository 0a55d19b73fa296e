package tlv

import (
	"io"
	"iter"
)

// kindSet is the set of kinds that may stand at a place, a bit for each. Elements of different
// levels do not mix, so the kind of one element determines which kinds may stand beside it.
type kindSet uint8

const (
	noKind  kindSet = 1 << 6 // nothing more, after an error
	aValue  kindSet = 1 << 7 // a place for a value, not for elements
	anyKind kindSet = 1<<ObjectInstance | 1<<ResourceInstance | 1<<MultipleResource | 1<<Resource
)

func (s kindSet) has(k Kind) bool { return s>>k&1 != 0 }

// isValue reports whether elements of kind k hold a value rather than elements; such kinds are odd.
func isValue(k Kind) bool { return k&1 != 0 }

var (
	// beside has the kinds that can be siblings of each kind; for an invalid kind, a set that
	// matches no place.
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
	// Value is a slice of the input, and valid as long as the input: the bytes of the value, or for
	// an ObjectInstance or MultipleResource the encoded children.
	Value []byte
	ID    uint16 // 0 to MaxID
	Kind  Kind

	offset uint32 // of Value; the struct stays within four words, which is fast
}

// Offset returns where Value begins, in bytes from the start of the input of [All] (modulo 4 GiB).
func (e Element) Offset() int { return int(e.offset) }

// Children iterates over the elements inside an [ObjectInstance] or [MultipleResource], as [All]
// does. For a [Resource] or [ResourceInstance] it yields [ErrNesting].
func (e Element) Children() iter.Seq2[Element, error] { return e.decoder().All() }

func (e Element) decoder() decoder {
	return decoder{rest: e.Value, offset: e.offset, kinds: inside[e.Kind&3]}
}

// decoder steps through the elements of one level. Copies of it continue independently.
type decoder struct {
	rest   []byte
	offset uint32  // of rest in the outermost input
	kinds  kindSet // that may come next
}

func newDecoder(data []byte) decoder { return decoder{rest: data, kinds: anyKind} }

// Next returns the next element, or io.EOF after the last. Any other error is a [*SyntaxError]; the
// decoder then stays where it is.
func (d *decoder) Next() (Element, error) {
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
func (d *decoder) next() (Element, error) {
	if len(d.rest) == 0 && d.kinds&aValue == 0 {
		return Element{}, io.EOF
	}
	h, size, reason := parseHeader(d.rest)
	switch {
	case d.kinds&aValue != 0:
		reason = ErrNesting
	case reason != nil:
	case !d.kinds.has(h.kind):
		reason = ErrNesting
	case h.length > len(d.rest)-size:
		reason = ErrTruncated
	}
	if reason != nil {
		return Element{}, &SyntaxError{int(d.offset), reason}
	}
	n, at := size+h.length, d.offset
	value := d.rest[size:n:n]
	d.rest = d.rest[n:]
	d.offset = at + uint32(n)
	d.kinds = beside[h.kind]
	return Element{Value: value, ID: h.id, Kind: h.kind, offset: at + uint32(size)}, nil
}

// All iterates over the elements that are left, without moving d.
func (d decoder) All() iter.Seq2[Element, error] {
	return func(yield func(Element, error) bool) {
		for {
			e, err := d.Next()
			if err == io.EOF || !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// All iterates over the elements at the top level of data: object instances, resources (multiple or
// not), or resource instances. The path of the request says which; here the first element decides.
// Nothing is allocated. An error is a [*SyntaxError] and ends the iteration.
func All(data []byte) iter.Seq2[Element, error] { return newDecoder(data).All() }
