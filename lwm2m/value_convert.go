package lwm2m

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/otago-iot/otago/senml"
	"github.com/otago-iot/otago/tlv"
)

// As returns v as a value of type t. It converts without loss between the number types (but rounds
// large integers to Float), between String and Corelnk, from the integers 0 and 1 to Boolean, from
// the text/plain form in a String, and from the TLV form in an Opaque. So it gives a value that was
// read without a model its type. For anything else it reports false. As(TypeNone) returns v itself.
func (v Value) As(t Type) (Value, bool) {
	if t == TypeNone {
		return v, true
	}
	if w, ok := v.fit(t); ok {
		return w, true
	}
	if b, ok := v.Bool(); ok && t == TypeBoolean {
		return Boolean(b), true
	}
	switch v.typ {
	case TypeString:
		return parseText(v.str, t)
	case TypeOpaque:
		w, err := tlvValue(tlv.Element{Value: []byte(v.str)}, t)
		return w, err == nil && w.typ == t
	}
	return Value{}, false
}

// fit converts a value from a format with types of its own, such as SenML and CBOR, to the type
// that the model demands. It is stricter than As. Without a model, a number that is whole becomes
// an Integer, as not all formats tell 21 from 21.0.
func (v Value) fit(t Type) (Value, bool) {
	if t == TypeNone && v.typ == TypeFloat {
		return valueOfNumber(senml.Float(math.Float64frombits(v.num))), true
	}
	if t == v.typ || t == TypeNone {
		return v, true
	}
	switch t {
	case TypeInteger, TypeTime:
		i, ok := v.Int64()
		return Value{typ: t, num: uint64(i)}, ok
	case TypeUnsigned:
		u, ok := v.Uint64()
		return Unsigned(u), ok
	case TypeFloat:
		f, ok := v.Float64()
		return Float(f), ok
	case TypeString, TypeCoreLink:
		s, ok := v.Text()
		return Value{typ: t, str: s}, ok
	}
	return Value{}, false
}

// fitCBOR is fit for the CBOR formats, in which object links are text.
func (v Value) fitCBOR(t Type) (Value, bool) {
	if t == TypeObjectLink && v.typ == TypeString {
		return parseObjectLink(v.str)
	}
	return v.fit(t)
}

// appendText appends the text/plain form (Core specification, table of data types): decimal
// numbers, 0 or 1, base64 for bytes, "object:instance".
func (v Value) appendText(dst []byte) []byte {
	switch v.typ {
	case TypeString, TypeCoreLink:
		return append(dst, v.str...)
	case TypeInteger, TypeTime:
		return strconv.AppendInt(dst, int64(v.num), 10)
	case TypeUnsigned, TypeBoolean:
		return strconv.AppendUint(dst, v.num, 10)
	case TypeFloat:
		return strconv.AppendFloat(dst, math.Float64frombits(v.num), 'g', -1, 64)
	case TypeOpaque:
		return base64.StdEncoding.AppendEncode(dst, []byte(v.str))
	case TypeObjectLink:
		return appendObjectLink(dst, v)
	default:
		return dst
	}
}

func appendObjectLink(dst []byte, v Value) []byte {
	dst = strconv.AppendUint(dst, v.num>>16, 10)
	dst = append(dst, ':')
	return strconv.AppendUint(dst, v.num&0xffff, 10)
}

// parseText reads the text/plain form of a value of type t; a resource whose type is unknown is a
// String.
func parseText(s string, t Type) (Value, bool) {
	switch t {
	case TypeNone, TypeString:
		return String(s), utf8.ValidString(s)
	case TypeCoreLink:
		return CoreLink(s), utf8.ValidString(s)
	case TypeInteger, TypeTime:
		i, ok := parseInteger(s)
		return Value{typ: t, num: uint64(i)}, ok
	case TypeUnsigned:
		u, err := strconv.ParseUint(s, 10, 64)
		return Unsigned(u), err == nil
	case TypeFloat:
		return parseFloat(s)
	case TypeBoolean:
		switch s {
		case "0":
			return Boolean(false), true
		case "1":
			return Boolean(true), true
		}
	case TypeOpaque:
		b, err := base64.StdEncoding.Strict().DecodeString(s)
		return Opaque(b), err == nil
	case TypeObjectLink:
		return parseObjectLink(s)
	}
	return Value{}, false
}

// parseInteger is strconv.ParseInt without the plus sign, which LwM2M does not allow.
func parseInteger(s string) (int64, bool) {
	if s == "" || s[0] == '+' {
		return 0, false
	}
	i, err := strconv.ParseInt(s, 10, 64)
	return i, err == nil
}

// parseFloat accepts decimal numbers with an optional exponent, and none of the hexadecimal,
// infinite and underscored forms that strconv knows.
func parseFloat(s string) (Value, bool) {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c == '.', c == 'e', c == 'E', c == '-':
		case c == '+' && i > 0:
		default:
			return Value{}, false
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	return Float(f), err == nil
}

// isFinite reports whether v is not a Float without a decimal form: NaN or an infinity.
func (v Value) isFinite() bool {
	f := math.Float64frombits(v.num)
	return v.typ != TypeFloat || !math.IsNaN(f) && !math.IsInf(f, 0)
}

// MarshalJSON returns a number, a string, true or false, null, or a string of base64 for Opaque and
// of "object:instance" for Objlnk. Integers keep all 64 bits. NaN and the infinities become
// strings, since JSON has no number for them.
func (v Value) MarshalJSON() ([]byte, error) {
	switch v.typ {
	case TypeNone, TypeNull:
		return []byte("null"), nil
	case TypeBoolean:
		return strconv.AppendBool(nil, v.num == 1), nil
	case TypeInteger, TypeTime, TypeUnsigned:
		return v.appendText(nil), nil
	case TypeFloat:
		if v.isFinite() {
			return json.Marshal(math.Float64frombits(v.num))
		}
	}
	return json.Marshal(v.String())
}

// UnmarshalJSON takes a string as String, a number as Integer, else Unsigned Integer, else Float,
// true and false as Boolean, and null as [Null]. [Value.As] converts the result to the type of a
// resource.
func (v *Value) UnmarshalJSON(data []byte) error {
	switch {
	case len(data) == 0:
		return fmt.Errorf("lwm2m: empty JSON value")
	case string(data) == "null":
		*v = Null()
	case string(data) == "true", string(data) == "false":
		*v = Boolean(data[0] == 't')
	case data[0] == '"':
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		*v = String(s)
	default:
		n, ok := parseNumber(string(data))
		if !ok {
			return fmt.Errorf("lwm2m: JSON %.20q is not a value", data)
		}
		*v = n
	}
	return nil
}

// parseNumber keeps integers exact and takes the rest as Float.
func parseNumber(s string) (Value, bool) {
	if i, ok := parseInteger(s); ok {
		return Integer(i), true
	}
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		return Unsigned(u), true
	}
	return parseFloat(s)
}
