package senml

import (
	"encoding/base64"
	"math"
	"strconv"
)

// AppendJSON appends pack in JSON (application/senml+json) to dst. If DecodeJSON of the same Codec
// would refuse the result, AppendJSON fails with a [*SyntaxError] that names the record, and
// returns dst as it was.
func (c Codec) AppendJSON(dst []byte, pack []Record) ([]byte, error) {
	k := checker{codec: c}
	b := append(dst, '[')
	for i := range pack {
		r := &pack[i]
		if i > 0 {
			b = append(b, ',')
		}
		if r.isPlain() && k.goodOut(r) {
			b = appendPlainJSON(b, r)
			continue
		}
		has := r.labels()
		if err := k.checkOut(r, has); err != nil {
			return dst, &SyntaxError{Offset: -1, Record: i, Err: err}
		}
		b = appendJSONRecord(b, r, has)
	}
	b = append(b, ']')
	if err := k.checkNames(len(b) - len(dst)); err != nil {
		return dst, &SyntaxError{Offset: -1, Record: -1, Err: err}
	}
	return b, nil
}

// appendPlainJSON appends a record that is plain and valid.
func appendPlainJSON(b []byte, r *Record) []byte {
	start := len(b)
	if r.Name != "" { // nothing in it needs an escape
		b = append(append(append(b, `,"n":"`...), r.Name...), '"')
	}
	b = r.Value.appendJSON(b)
	b[start] = '{' // replaces the first comma
	return append(b, '}')
}

func appendJSONRecord(b []byte, r *Record, has labelSet) []byte {
	start := len(b)
	if has&(1<<labelName-1) != 0 { // base fields are rare
		if has.has(labelBaseName) {
			b = appendJSONString(append(b, `,"bn":`...), r.BaseName)
		}
		if has.has(labelBaseTime) {
			b = r.BaseTime.appendText(append(b, `,"bt":`...))
		}
		if has.has(labelBaseUnit) {
			b = appendJSONString(append(b, `,"bu":`...), r.BaseUnit)
		}
		if has.has(labelBaseValue) {
			b = r.BaseValue.appendText(append(b, `,"bv":`...))
		}
		if has.has(labelBaseSum) {
			b = r.BaseSum.appendText(append(b, `,"bs":`...))
		}
		if has.has(labelVersion) {
			b = strconv.AppendInt(append(b, `,"bver":`...), int64(r.BaseVersion), 10)
		}
	}
	if has.has(labelName) {
		b = append(append(append(b, `,"n":"`...), r.Name...), '"')
	}
	if has.has(labelUnit) {
		b = appendJSONString(append(b, `,"u":`...), r.Unit)
	}
	if has.has(labelTime) {
		b = r.Time.appendText(append(b, `,"t":`...))
	}
	b = r.Value.appendJSON(b)
	if has.has(labelSum) {
		b = r.Sum.appendText(append(b, `,"s":`...))
	}
	if has.has(labelUpdateTime) {
		b = r.UpdateTime.appendText(append(b, `,"ut":`...))
	}
	b[start] = '{' // replaces the first comma
	return append(b, '}')
}

// appendJSON appends the value as a field, with a comma before.
func (v *Value) appendJSON(b []byte) []byte {
	switch v.kind {
	case NumberKind:
		return v.num.appendText(append(b, `,"v":`...))
	case StringKind:
		return appendJSONString(append(b, `,"vs":`...), v.text)
	case BoolKind:
		if v.bool {
			return append(b, `,"vb":true`...)
		}
		return append(b, `,"vb":false`...)
	case DataKind:
		b = base64.RawURLEncoding.AppendEncode(append(b, `,"vd":"`...), v.data)
		return append(b, '"')
	case LinkKind:
		return appendJSONString(append(b, `,"vlo":`...), v.text)
	case NullKind:
		return append(b, `,"v":null`...)
	}
	return b
}

// plainJSON has true for bytes that a JSON string holds without an escape. Bytes beyond ASCII are
// among them, because the text is valid UTF-8.
var plainJSON = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return t
}()

// asciiJSON is plainJSON without the bytes beyond ASCII.
var asciiJSON = func() (t [256]bool) {
	copy(t[:0x80], plainJSON[:])
	return t
}()

func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		if plainJSON[s[i]] {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c := s[i]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			const hex = "0123456789abcdef"
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		}
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

// String returns n in JSON notation; "" if it is not set.
func (n Number) String() string { return string(n.appendText(nil)) }

func (n Number) appendText(b []byte) []byte {
	switch n.kind {
	case signed:
		return strconv.AppendInt(b, int64(n.bits), 10)
	case unsigned:
		return strconv.AppendUint(b, n.bits, 10)
	case decimal:
		return appendDecimal(b, int64(n.bits), int(n.exp))
	case float:
		return appendFloat(b, math.Float64frombits(n.bits))
	}
	return b
}

// appendFloat chooses between notations as JavaScript and encoding/json do.
func appendFloat(b []byte, f float64) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, f, format, -1, 64)
}

// appendDecimal writes the digits of m with a point in between if that needs no more than a few
// zeros, and with an exponent otherwise.
func appendDecimal(b []byte, m int64, exp int) []byte {
	start := len(b)
	b = strconv.AppendInt(b, m, 10)
	if m < 0 {
		start++
	}
	digits := len(b) - start
	if exp > 0 || digits+exp < -5 {
		b = append(b, 'e')
		return strconv.AppendInt(b, int64(exp), 10)
	}
	zeros := 1 - (digits + exp) // so that one digit precedes the point
	for range zeros {
		b = append(b, '0')
	}
	if zeros > 0 {
		copy(b[start+zeros:], b[start:start+digits])
		for i := range zeros {
			b[start+i] = '0'
		}
	}
	point := len(b) + exp
	b = append(b, 0)
	copy(b[point+1:], b[point:])
	b[point] = '.'
	return b
}
