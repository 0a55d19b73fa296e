package lwm2m

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"

	"github.com/otago-iot/otago/tlv"
)

// appendTLV writes entries as the request path requires: object instances below an object,
// resources below an object instance, one resource, or one resource instance.
func appendTLV(dst []byte, base Path, entries []Entry, m modelView) ([]byte, error) {
	if base.IsRoot() {
		return dst, fmt.Errorf("%w: TLV does not name objects", ErrUnsupportedFormat)
	}
	entries, err := sortedEntries(entries)
	if err != nil {
		return dst, err
	}
	enc := tlv.NewEncoder(dst)
	if len(entries) == 0 && base.IsResource() && m.multiple(base) {
		enc.Begin(tlv.MultipleResource, base.Resource())
		enc.End()
	}
	for len(entries) > 0 {
		n, err := appendTLVElement(&enc, base, entries)
		if err != nil {
			return dst, err
		}
		entries = entries[n:]
	}
	out, err := enc.Bytes()
	if err != nil {
		return dst, fmt.Errorf("%w: %w", ErrNotEncodable, err)
	}
	return out, nil
}

// appendTLVElement writes the outermost element that the first entry belongs to and returns how
// many entries went into it.
func appendTLVElement(enc *tlv.Encoder, base Path, entries []Entry) (int, error) {
	if !base.IsObject() {
		return appendTLVResource(enc, base, entries)
	}
	n := run(entries, 1)
	enc.Begin(tlv.ObjectInstance, entries[0].Path.Instance())
	if !entries[0].Path.IsInstance() {
		for i := 0; i < n; {
			done, err := appendTLVResource(enc, base, entries[i:n])
			if err != nil {
				return 0, err
			}
			i += done
		}
	}
	enc.End()
	return n, nil
}

func appendTLVResource(enc *tlv.Encoder, base Path, entries []Entry) (int, error) {
	e := &entries[0]
	switch {
	case e.Path.IsInstance():
		return 1, nil // the instance of the request, which is empty
	case e.Path.IsResource() && e.Value.typ != TypeNone:
		return 1, appendTLVValue(enc, tlv.Resource, e.Path.Resource(), e)
	case base.IsResourceInstance():
		return 1, appendTLVValue(enc, tlv.ResourceInstance, e.Path.ResourceInstance(), e)
	}
	n := run(entries, 2)
	enc.Begin(tlv.MultipleResource, e.Path.Resource())
	if e.Path.IsResourceInstance() {
		for i := range entries[:n] {
			if err := appendTLVValue(enc, tlv.ResourceInstance, entries[i].Path.ResourceInstance(), &entries[i]); err != nil {
				return 0, err
			}
		}
	}
	enc.End()
	return n, nil
}

func appendTLVValue(enc *tlv.Encoder, k tlv.Kind, id uint16, e *Entry) error {
	v := e.Value
	switch v.typ {
	case TypeString, TypeCoreLink, TypeOpaque:
		enc.Text(k, id, v.str)
	case TypeInteger, TypeTime:
		enc.Int(k, id, int64(v.num))
	case TypeUnsigned:
		enc.Uint(k, id, v.num)
	case TypeFloat:
		enc.Float(k, id, math.Float64frombits(v.num))
	case TypeBoolean:
		enc.Bool(k, id, v.num == 1)
	case TypeObjectLink:
		enc.ObjectLink(k, id, uint16(v.num>>16), uint16(v.num))
	default:
		return notEncodable(e.Path, "TLV has no "+v.typ.String())
	}
	return nil
}

func decodeTLV(base Path, payload []byte, m modelView) ([]Entry, error) {
	if base.IsRoot() {
		return nil, fmt.Errorf("%w: TLV does not name objects", ErrUnsupportedFormat)
	}
	// Validate finds all duplicates, in linear time.
	if err := tlv.Validate(payload); err != nil {
		return nil, tlvError(err)
	}
	d := tlvDecoder{base: base, types: typeLookup{view: m}, entries: make([]Entry, 0, countTLV(tlv.All(payload)))}
	for e, err := range tlv.All(payload) {
		if err == nil {
			err = d.top(e)
		}
		if err != nil {
			return nil, tlvError(err)
		}
	}
	if r := m.resource(base); len(d.entries) == 0 && (base.IsResourceInstance() || r != nil && !r.Multiple) {
		return nil, &FormatError{Format: FormatTLV, Reason: "no value"}
	}
	return d.entries, nil
}

// countTLV returns an upper bound of the number of entries in a valid body.
func countTLV(elements iter.Seq2[tlv.Element, error]) (n int) {
	for e, err := range elements {
		if err != nil {
			break
		}
		if e.Kind == tlv.ObjectInstance || e.Kind == tlv.MultipleResource {
			n += countTLV(e.Children())
		}
		n++
	}
	return n
}

// tlvError converts an error of package tlv to a FormatError with its offset.
func tlvError(err error) error {
	if se, ok := errors.AsType[*tlv.SyntaxError](err); ok {
		return &FormatError{Format: FormatTLV, Offset: se.Offset, Reason: strings.TrimPrefix(se.Err.Error(), "tlv: "), Err: err}
	}
	return err
}

type tlvDecoder struct {
	base    Path
	types   typeLookup
	entries []Entry
}

func (d *tlvDecoder) fail(e tlv.Element, reason string) error {
	return &FormatError{Format: FormatTLV, Offset: e.Offset(), Reason: reason}
}

// top reads an element of the outermost level. Its kind says how much of the path the payload
// repeats.
func (d *tlvDecoder) top(e tlv.Element) error {
	switch e.Kind {
	case tlv.ObjectInstance:
		return d.instance(e)
	case tlv.ResourceInstance:
		if d.base.Len() < 3 {
			return d.fail(e, "resource instance where its resource is not known")
		}
		return d.value(e, d.base.Prefix(3).child(e.ID))
	default:
		p := d.base.Prefix(2)
		if p.IsObject() { // a Create that leaves the instance to the client
			p = p.child(0)
		}
		return d.resource(e, p)
	}
}

func (d *tlvDecoder) instance(e tlv.Element) error {
	p := d.base.Prefix(1).child(e.ID)
	if !p.Contains(d.base) && !d.base.Contains(p) {
		return d.fail(e, "object instance of another path")
	}
	empty := true
	for c, err := range e.Children() {
		if err == nil {
			err = d.resource(c, p)
		}
		if err != nil {
			return err
		}
		empty = false
	}
	if empty && d.base.IsObject() {
		d.entries = append(d.entries, Entry{Path: p})
	}
	return nil
}

func (d *tlvDecoder) resource(e tlv.Element, instance Path) error {
	p := instance.child(e.ID)
	if e.Kind == tlv.Resource {
		return d.value(e, p)
	}
	if !p.Contains(d.base) && !d.base.Contains(p) {
		return d.fail(e, "resource of another path")
	}
	empty := true
	for c, err := range e.Children() {
		if err == nil {
			err = d.value(c, p.child(c.ID))
		}
		if err != nil {
			return err
		}
		empty = false
	}
	if empty && d.base.Len() < 3 {
		d.entries = append(d.entries, Entry{Path: p})
	}
	return nil
}

func (d *tlvDecoder) value(e tlv.Element, p Path) error {
	if !d.base.Contains(p) {
		return d.fail(e, "value of another path")
	}
	v, err := tlvValue(e, d.types.typeOf(p))
	if err != nil {
		return err
	}
	d.entries = append(d.entries, Entry{Path: p, Value: v})
	return nil
}

// tlvValue reads a value as the type that the model gives; TLV itself has no types, so the value of
// an unknown resource is its bytes.
func tlvValue(e tlv.Element, t Type) (Value, error) {
	switch t {
	case TypeString, TypeCoreLink:
		s, err := e.Text()
		return Value{typ: t, str: s}, err
	case TypeInteger, TypeTime:
		i, err := e.Int()
		return Value{typ: t, num: uint64(i)}, err
	case TypeUnsigned:
		u, err := e.Uint()
		return Unsigned(u), err
	case TypeFloat:
		f, err := e.Float()
		return Float(f), err
	case TypeBoolean:
		b, err := e.Bool()
		return Boolean(b), err
	case TypeObjectLink:
		object, instance, err := e.ObjectLink()
		return ObjectLink(object, instance), err
	default:
		return Opaque(e.Value), nil
	}
}
