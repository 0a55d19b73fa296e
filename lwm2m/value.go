package lwm2m

import (
	"math"
	"time"
)

// Value is a typed value of a resource or a resource instance. It is immutable and comparable;
// equal values have equal types. The zero Value is no value.
//
// Values are made by [String], [Integer], [Unsigned], [Float], [Boolean], [Opaque], [Time],
// [ObjectLink], [CoreLink] and [Null], and read by methods that return the value in a Go type and
// report whether it converts to that type.
type Value struct {
	typ Type
	num uint64 // numbers, booleans, times as bits; links as object<<16 | instance
	str string // strings, links in text form, bytes
}

// String returns a value of type String. It should be valid UTF-8; encoders refuse other strings.
func String(s string) Value { return Value{typ: TypeString, str: s} }

// Integer returns a value of type Integer.
func Integer(i int64) Value { return Value{typ: TypeInteger, num: uint64(i)} }

// Unsigned returns a value of type Unsigned Integer (LwM2M 1.1).
func Unsigned(u uint64) Value { return Value{typ: TypeUnsigned, num: u} }

// Float returns a value of type Float. All NaNs give equal values.
func Float(f float64) Value {
	if f != f {
		f = math.NaN()
	}
	return Value{typ: TypeFloat, num: math.Float64bits(f)}
}

// Boolean returns a value of type Boolean.
func Boolean(b bool) Value {
	if b {
		return Value{typ: TypeBoolean, num: 1}
	}
	return Value{typ: TypeBoolean}
}

// Opaque returns a value of type Opaque with a copy of b.
func Opaque(b []byte) Value { return Value{typ: TypeOpaque, str: string(b)} }

// Time returns a value of type Time, which counts whole seconds since 1970.
func Time(t time.Time) Value { return Value{typ: TypeTime, num: uint64(t.Unix())} }

// ObjectLink returns a value of type Objlnk that refers to an object instance. ObjectLink(NoID,
// NoID) is the null link.
func ObjectLink(object, instance uint16) Value {
	return Value{typ: TypeObjectLink, num: uint64(object)<<16 | uint64(instance)}
}

// CoreLink returns a value of type Corelnk: text in the core link format.
func CoreLink(s string) Value { return Value{typ: TypeCoreLink, str: s} }

// Null returns the value that removes a resource instance in a Write-Composite (LwM2M 1.2).
func Null() Value { return Value{typ: TypeNull} }

// Type returns the value's type: TypeNone for the zero Value.
func (v Value) Type() Type { return v.typ }

// isNull reports whether v is [Null].
func (v Value) isNull() bool { return v.typ == TypeNull }

// isZero reports whether v is the zero Value.
func (v Value) isZero() bool { return v.typ == TypeNone }

// Int64 returns an Integer, a Time (Unix seconds), an Unsigned Integer that fits, or a Float that
// is a whole number in range.
func (v Value) Int64() (int64, bool) {
	switch v.typ {
	case TypeInteger, TypeTime:
		return int64(v.num), true
	case TypeUnsigned:
		return int64(v.num), v.num <= math.MaxInt64
	case TypeFloat:
		f := math.Float64frombits(v.num)
		if f == math.Trunc(f) && f >= -1<<63 && f < 1<<63 {
			return int64(f), true
		}
	}
	return 0, false
}

// Uint64 returns an Unsigned Integer, or an Integer, Time or whole Float that is not negative and
// in range.
func (v Value) Uint64() (uint64, bool) {
	switch v.typ {
	case TypeUnsigned:
		return v.num, true
	case TypeInteger, TypeTime:
		return v.num, int64(v.num) >= 0
	case TypeFloat:
		f := math.Float64frombits(v.num)
		if f == math.Trunc(f) && f >= 0 && f < 1<<64 {
			return uint64(f), true
		}
	}
	return 0, false
}

// Float64 returns a Float, or an Integer, Unsigned Integer or Time rounded to the nearest float64.
func (v Value) Float64() (float64, bool) {
	switch v.typ {
	case TypeFloat:
		return math.Float64frombits(v.num), true
	case TypeInteger, TypeTime:
		return float64(int64(v.num)), true
	case TypeUnsigned:
		return float64(v.num), true
	default:
		return 0, false
	}
}

// Bool returns a Boolean, or whether an Integer or Unsigned Integer that is 0 or 1 is 1.
func (v Value) Bool() (b, ok bool) {
	switch v.typ {
	case TypeBoolean, TypeInteger, TypeUnsigned:
		return v.num == 1, v.num <= 1
	default:
		return false, false
	}
}

// Text returns a String or a Corelnk.
func (v Value) Text() (string, bool) {
	if v.typ == TypeString || v.typ == TypeCoreLink {
		return v.str, true
	}
	return "", false
}

// Bytes returns a copy of an Opaque.
func (v Value) Bytes() ([]byte, bool) {
	if v.typ != TypeOpaque {
		return nil, false
	}
	return []byte(v.str), true
}

// Time returns a Time, or the time of a number that holds Unix seconds.
func (v Value) Time() (time.Time, bool) {
	sec, ok := v.Int64()
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(sec, 0), true
}

// ObjectLink returns the object and the instance that an Objlnk refers to. The null link is (NoID,
// NoID).
func (v Value) ObjectLink() (object, instance uint16, ok bool) {
	if v.typ != TypeObjectLink {
		return 0, 0, false
	}
	return uint16(v.num >> 16), uint16(v.num), true
}

// String returns the value in its text/plain form, for people: Opaque as base64, Boolean as 0 or 1,
// Time as Unix seconds. None is "", null "null".
func (v Value) String() string {
	switch v.typ {
	case TypeString, TypeCoreLink:
		return v.str
	case TypeNull:
		return "null"
	default:
		return string(v.appendText(nil))
	}
}

// parseObjectLink reads "object:instance", both decimal.
func parseObjectLink(s string) (Value, bool) {
	var ids [2]uint32
	field, digits := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == ':' && field == 0 && digits > 0:
			field, digits = 1, 0
		case c >= '0' && c <= '9':
			ids[field] = ids[field]*10 + uint32(c-'0')
			if digits++; ids[field] > uint32(NoID) {
				return Value{}, false
			}
		default:
			return Value{}, false
		}
	}
	return ObjectLink(uint16(ids[0]), uint16(ids[1])), field == 1 && digits > 0
}

// Type is a data type of LwM2M (Core specification, appendix C), both of a [Value] and of a
// resource in a [ResourceModel].
type Type uint8

// The data types. TypeNone is the type of the zero [Value] and of resources that can only be
// executed. TypeNull is the type of [Null].
const (
	TypeNone Type = iota
	TypeString
	TypeInteger
	TypeUnsigned
	TypeFloat
	TypeBoolean
	TypeOpaque
	TypeTime
	TypeObjectLink
	TypeCoreLink
	TypeNull
)

var typeNames = [...]string{
	TypeNone: "none", TypeString: "String", TypeInteger: "Integer", TypeUnsigned: "Unsigned Integer",
	TypeFloat: "Float", TypeBoolean: "Boolean", TypeOpaque: "Opaque", TypeTime: "Time",
	TypeObjectLink: "Objlnk", TypeCoreLink: "Corelnk", TypeNull: "null",
}

// String returns the type's name in the registry of objects, such as "Integer".
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "unknown"
}
