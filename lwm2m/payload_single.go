package lwm2m

import (
	"fmt"
	"unicode/utf8"
)

// The formats that carry one value and no path: text/plain, octet-stream and CBOR.

// isSingle reports whether a format without paths can carry the value at base: a resource that is
// not multiple, or a resource instance.
func isSingle(base Path, m modelView) bool {
	if base.IsResource() {
		return !m.multiple(base)
	}
	return base.IsResourceInstance()
}

func appendSingle(dst []byte, f ContentFormat, base Path, entries []Entry) ([]byte, error) {
	if base.Len() < 3 || len(entries) != 1 || entries[0].Path != base {
		return dst, fmt.Errorf("%w: %s carries one value, of a resource", ErrUnsupportedFormat, f)
	}
	v := entries[0].Value
	switch {
	case v.typ == TypeNone || v.typ == TypeNull:
		return dst, notEncodable(base, "no value")
	case f == FormatCBOR:
		return appendCBORValue(dst, v), nil
	case f == FormatText && !v.isFinite():
		return dst, notEncodable(base, "text has no such number")
	case f == FormatText:
		return v.appendText(dst), nil
	case v.typ == TypeOpaque:
		return append(dst, v.str...), nil
	default:
		return dst, fmt.Errorf("%w: %s carries Opaque only, not %s", ErrUnsupportedFormat, f, v.typ)
	}
}

func decodeSingle(f ContentFormat, base Path, payload []byte, m modelView) ([]Entry, error) {
	if !isSingle(base, m) {
		return nil, fmt.Errorf("%w: %s for %s", ErrUnsupportedFormat, f, base)
	}
	types := typeLookup{view: m}
	t := types.typeOf(base)
	var v Value
	var err error
	switch f {
	case FormatText:
		v, err = decodeText(payload, t)
	case FormatCBOR:
		v, err = decodeCBOR(payload, t)
	default:
		if t != TypeNone && t != TypeOpaque {
			return nil, fmt.Errorf("%w: %s for %s of type %s", ErrUnsupportedFormat, f, base, t)
		}
		v = Opaque(payload)
	}
	if err != nil {
		return nil, err
	}
	return []Entry{{Path: base, Value: v}}, nil
}

func decodeText(payload []byte, t Type) (Value, error) {
	if !utf8.Valid(payload) {
		return Value{}, &FormatError{Format: FormatText, Offset: invalidUTF8(payload), Reason: "text is not UTF-8"}
	}
	v, ok := parseText(string(payload), t)
	if !ok {
		return Value{}, &FormatError{Format: FormatText, Reason: "text is not of type " + t.String()}
	}
	return v, nil
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8.
func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		c, n := utf8.DecodeRune(b[i:])
		if c == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}

func decodeCBOR(payload []byte, t Type) (Value, error) {
	r := newCBORReader(FormatCBOR, payload)
	h, err := r.head()
	if err != nil {
		return Value{}, err
	}
	v, err := r.value(h)
	if err != nil {
		return Value{}, err
	}
	if err := r.end(); err != nil {
		return Value{}, err
	}
	if v.typ == TypeNull {
		return Value{}, r.fail(h.At, "null is not a value")
	}
	typed, ok := v.fitCBOR(t)
	if !ok {
		return Value{}, r.fail(h.At, "value is not of type "+t.String())
	}
	return typed, nil
}
