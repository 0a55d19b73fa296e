package lwm2m

import (
	"math"

	"github.com/otago-iot/otago/internal/cbor"
	"github.com/otago-iot/otago/senml"
)

// cborReader reads the values of a payload. Its strings share one copy of the payload.
type cborReader struct {
	cbor.Reader
	format ContentFormat
}

func newCBORReader(f ContentFormat, payload []byte) cborReader {
	return cborReader{cbor.Reader{S: string(payload)}, f}
}

func (r *cborReader) fail(offset int, reason string) error {
	return &FormatError{Format: r.format, Offset: offset, Reason: reason}
}

func (r *cborReader) head() (cbor.Head, error) {
	h, err := r.Head()
	if err != nil {
		err = r.fail(r.Pos, err.Error())
	}
	return h, err
}

// end returns an error if data follows.
func (r *cborReader) end() error {
	if r.Pos < len(r.S) {
		return r.fail(r.Pos, "data after the end")
	}
	return nil
}

// value reads a value whose head is h.
func (r *cborReader) value(h cbor.Head) (Value, error) {
	v, err := r.bareValue(h)
	if err != nil {
		err = r.fail(r.Pos, err.Error())
	}
	return v, err
}

// bareValue is value, but its errors are those of package cbor.
func (r *cborReader) bareValue(h cbor.Head) (Value, error) {
	switch h.Major {
	case cbor.Uint, cbor.NegInt:
		i, err := h.Int()
		if err != nil && h.Major == cbor.Uint {
			return Unsigned(h.Arg), nil
		}
		return Integer(i), err
	case cbor.Bytes:
		s, err := r.Content(h)
		return Value{typ: TypeOpaque, str: s}, err
	case cbor.Text:
		s, err := r.Content(h)
		return String(s), err
	case cbor.Tag:
		return r.tagged(h)
	case cbor.Simple:
		switch cbor.Simple | h.Info {
		case cbor.False, cbor.True:
			return Boolean(cbor.Simple|h.Info == cbor.True), nil
		case cbor.Null:
			return Null(), nil
		}
		if f, ok := h.Float(); ok {
			return Float(f), nil
		}
	}
	return Value{}, r.Mistyped(h)
}

func (r *cborReader) tagged(tag cbor.Head) (Value, error) {
	switch tag.Arg {
	case cbor.TagDateTime:
		t, err := r.DateTime()
		return Time(t), err
	case cbor.TagEpoch:
		h, err := r.Head()
		if err != nil {
			return Value{}, err
		}
		if h.Major > cbor.NegInt && h.Major != cbor.Simple {
			return Value{}, r.Mistyped(h)
		}
		v, err := r.bareValue(h)
		if err != nil {
			return Value{}, err
		}
		sec, ok := v.Int64()
		if !ok {
			return Value{}, cbor.ErrRange
		}
		return Value{typ: TypeTime, num: uint64(sec)}, nil
	case cbor.TagDecimal:
		exp, mantissa, err := r.Decimal()
		if err != nil {
			return Value{}, err
		}
		v := valueOfNumber(senml.Decimal(mantissa, int(max(-1<<20, min(exp, 1<<20)))))
		if !v.isFinite() {
			return Value{}, cbor.ErrRange
		}
		return v, nil
	}
	return Value{}, r.Mistyped(tag)
}

// appendCBORValue appends v in the shortest form; the caller has excluded TypeNone.
func appendCBORValue(dst []byte, v Value) []byte {
	switch v.typ {
	case TypeInteger, TypeTime:
		return cbor.AppendInt(dst, int64(v.num))
	case TypeUnsigned:
		return cbor.AppendHead(dst, cbor.Uint, v.num)
	case TypeFloat:
		return cbor.AppendFloat(dst, math.Float64frombits(v.num))
	case TypeBoolean:
		return append(dst, cbor.False|byte(v.num))
	case TypeOpaque:
		return cbor.AppendBytes(dst, v.str)
	case TypeObjectLink:
		var buf [11]byte
		return cbor.AppendText(dst, appendObjectLink(buf[:0], v))
	case TypeNull:
		return append(dst, cbor.Null)
	default:
		return cbor.AppendText(dst, v.str)
	}
}
