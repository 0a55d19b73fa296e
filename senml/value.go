package senml

import (
	"encoding/base64"
	"strconv"
)

// Kind is the kind of a [Value].
type Kind uint8

// The kinds of values, with their labels.
const (
	None       Kind = iota // no value
	NumberKind             // v
	StringKind             // vs
	BoolKind               // vb
	DataKind               // vd
	LinkKind               // vlo, an object link; LwM2M only
	NullKind               // v: null, which removes a record; Patch only
)

// Value is the value of a record: a number, string, boolean, opaque data, or an LwM2M object link.
// The zero Value is none.
type Value struct {
	num  Number
	text string
	data []byte
	kind Kind
	bool bool
}

// Null returns the value that removes a record or resource in a [Patch] pack.
func Null() Value { return Value{kind: NullKind} }

// Num returns the numeric value n; none if n is not set.
func Num(n Number) Value {
	if !n.IsSet() {
		return Value{}
	}
	return Value{kind: NumberKind, num: n}
}

// String returns a string value.
func String(s string) Value { return Value{kind: StringKind, text: s} }

// Bool returns a boolean value.
func Bool(b bool) Value { return Value{kind: BoolKind, bool: b} }

// Data returns an opaque value. It keeps b, not a copy.
func Data(b []byte) Value { return Value{kind: DataKind, data: b} }

// Link returns an LwM2M object link, "object:instance" in decimal.
func Link(s string) Value { return Value{kind: LinkKind, text: s} }

// Kind returns the kind of v.
func (v Value) Kind() Kind { return v.kind }

// Number returns the number of a NumberKind value; otherwise a number that is not set.
func (v Value) Number() Number { return v.num }

// Text returns the string of a StringKind or the link of a LinkKind value, and "" otherwise.
func (v Value) Text() string { return v.text }

// Bool returns the boolean of a BoolKind value, and false otherwise.
func (v Value) Bool() bool { return v.bool }

// Data returns the bytes of a DataKind value, not a copy, and nil otherwise.
func (v Value) Data() []byte { return v.data }

// String formats v for people: a number in decimal, a string or link as it is, data in base64url,
// and "null" or "none".
func (v Value) String() string {
	switch v.kind {
	case NumberKind:
		return v.num.String()
	case StringKind, LinkKind:
		return v.text
	case BoolKind:
		return strconv.FormatBool(v.bool)
	case DataKind:
		return base64.RawURLEncoding.EncodeToString(v.data)
	case NullKind:
		return "null"
	}
	return "none"
}
