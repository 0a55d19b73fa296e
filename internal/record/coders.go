package record

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"math"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"time"
)

type boolCoder struct{}

func (boolCoder) zero(v reflect.Value) bool { return !v.Bool() }

func (boolCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	n := uint64(0)
	if v.Bool() {
		n = 1
	}
	return appendNumber(b, number, n), nil
}

func (boolCoder) parse(v reflect.Value, f rawField) error {
	switch {
	case f.isBytes:
		return errKind
	case f.n > 1:
		return errRange
	}
	v.SetBool(f.n == 1)
	return nil
}

type intCoder struct{}

func (intCoder) zero(v reflect.Value) bool { return v.Int() == 0 }

func (intCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	return appendNumber(b, number, zigzag(v.Int())), nil
}

func (intCoder) parse(v reflect.Value, f rawField) error {
	n := unzigzag(f.n)
	switch {
	case f.isBytes:
		return errKind
	case v.OverflowInt(n):
		return errRange
	}
	v.SetInt(n)
	return nil
}

type uintCoder struct{}

func (uintCoder) zero(v reflect.Value) bool { return v.Uint() == 0 }

func (uintCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	return appendNumber(b, number, v.Uint()), nil
}

func (uintCoder) parse(v reflect.Value, f rawField) error {
	switch {
	case f.isBytes:
		return errKind
	case v.OverflowUint(f.n):
		return errRange
	}
	v.SetUint(f.n)
	return nil
}

type floatCoder struct{}

func (floatCoder) zero(v reflect.Value) bool { return v.Float() == 0 && !math.Signbit(v.Float()) }

// append turns the bits around, as those at the end are zero for most numbers that people write.
func (floatCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	return appendNumber(b, number, bits.Reverse64(math.Float64bits(v.Float()))), nil
}

func (floatCoder) parse(v reflect.Value, f rawField) error {
	if f.isBytes {
		return errKind
	}
	v.SetFloat(math.Float64frombits(bits.Reverse64(f.n)))
	return nil
}

type textCoder struct{}

func (textCoder) zero(v reflect.Value) bool { return v.Len() == 0 }

func (textCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	return appendText(b, number, v.String()), nil
}

func (textCoder) parse(v reflect.Value, f rawField) error {
	if !f.isBytes {
		return errKind
	}
	v.SetString(f.text)
	return nil
}

type hexCoder struct{ textCoder }

const (
	plainText  = 0
	packedText = 1
)

func isHex(s string) bool { return len(s)%2 == 0 && strings.Trim(s, "0123456789abcdef") == "" }

func (hexCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	text := v.String()
	b, start := beginBytes(b, number)
	if !isHex(text) {
		return endBytes(append(append(b, plainText), text...), start), nil
	}
	b = append(b, packedText)
	for i := 0; i < len(text); i += 2 {
		b = append(b, digit(text[i])<<4|digit(text[i+1]))
	}
	return endBytes(b, start), nil
}

func digit(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

func (hexCoder) parse(v reflect.Value, f rawField) error {
	switch {
	case !f.isBytes:
		return errKind
	case f.text == "" || f.text[0] > packedText:
		return errRange
	case f.text[0] == packedText:
		v.SetString(hex.EncodeToString([]byte(f.text[1:])))
	case isHex(f.text[1:]):
		return errors.New("record: digits that are not packed")
	default:
		v.SetString(f.text[1:])
	}
	return nil
}

type ulidCoder struct{ textCoder }

// crockford has the digits of a ULID, of 5 bits each.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// packULID appends the 16 bytes of a ULID. It returns false if the text is none.
func packULID(b []byte, text string) ([]byte, bool) {
	if len(text) != 26 || text[0] > '7' {
		return b, false
	}
	var hi, lo uint64
	for i := range len(text) {
		digit := strings.IndexByte(crockford, text[i])
		if digit < 0 {
			return b, false
		}
		hi, lo = hi<<5|lo>>59, lo<<5|uint64(digit)
	}
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, hi), lo), true
}

// unpackULID returns the text of 16 bytes.
func unpackULID(data string) string {
	hi, lo := binary.BigEndian.Uint64([]byte(data[:8])), binary.BigEndian.Uint64([]byte(data[8:]))
	var text [26]byte
	for i := len(text) - 1; i >= 0; i-- {
		text[i] = crockford[lo&31]
		hi, lo = hi>>5, lo>>5|hi<<59
	}
	return string(text[:])
}

func (ulidCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	text := v.String()
	b, start := beginBytes(b, number)
	if packed, ok := packULID(append(b, packedText), text); ok {
		return endBytes(packed, start), nil
	}
	return endBytes(append(append(b, plainText), text...), start), nil
}

func (ulidCoder) parse(v reflect.Value, f rawField) error {
	switch {
	case !f.isBytes:
		return errKind
	case len(f.text) == 17 && f.text[0] == packedText:
		v.SetString(unpackULID(f.text[1:]))
		return nil
	case f.text == "" || f.text[0] != plainText:
		return errRange
	}
	if _, ok := packULID(nil, f.text[1:]); ok {
		return errors.New("record: ULID that is not packed")
	}
	v.SetString(f.text[1:])
	return nil
}

type timeCoder struct{}

var (
	epoch  = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	oldest = epoch.Add(math.MinInt64 / 2)
	newest = epoch.Add(math.MaxInt64 / 2)
)

func asTime(v reflect.Value) *time.Time { return v.Addr().Interface().(*time.Time) }

func (timeCoder) zero(v reflect.Value) bool { return asTime(v).IsZero() }

// append writes times that are too far from the epoch as seconds, and nanoseconds, in bytes.
func (timeCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	t := asTime(v)
	if near(*t) {
		b, _ = appendScaled(b, number, int64(t.Sub(epoch)), 1000)
		return b, nil
	}
	if !writable(*t) {
		return b, errRange
	}
	b, start := beginBytes(b, number)
	b = appendNumber(b, 1, zigzag(t.Unix()-epoch.Unix()))
	return endBytes(appendNumber(b, 2, uint64(t.Nanosecond())), start), nil
}

func (timeCoder) parse(v reflect.Value, f rawField) error {
	if !f.isBytes {
		n, err := scaled(f.n, 1000)
		if err != nil || n < math.MinInt64/2 || n > math.MaxInt64/2 {
			return errRange
		}
		*asTime(v) = epoch.Add(time.Duration(n))
		return nil
	}
	seconds, rest, err := nextField(f.text)
	if err != nil {
		return err
	}
	nanos, rest, err := nextField(rest)
	if err != nil || rest != "" || seconds.isBytes || nanos.isBytes || nanos.n >= 1e9 || seconds.number != 1 || nanos.number != 2 {
		return errRange
	}
	t := time.Unix(epoch.Unix()+unzigzag(seconds.n), int64(nanos.n)).UTC()
	if !writable(t) || near(t) {
		return errRange
	}
	*asTime(v) = t
	return nil
}

func near(t time.Time) bool { return !t.Before(oldest) && !t.After(newest) }

func writable(t time.Time) bool { return t.UTC().Year() >= 0 && t.UTC().Year() <= 9999 }

type durationCoder struct{}

func (durationCoder) zero(v reflect.Value) bool { return v.Int() == 0 }

// append writes an odd duration of more than a century in bytes.
func (durationCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	b, ok := appendScaled(b, number, v.Int(), int64(time.Second))
	if !ok {
		var start int
		b, start = beginBytes(b, number)
		b = endBytes(appendNumber(b, 1, zigzag(v.Int())), start)
	}
	return b, nil
}

func (durationCoder) parse(v reflect.Value, f rawField) error {
	if !f.isBytes {
		n, err := scaled(f.n, int64(time.Second))
		v.SetInt(n)
		return err
	}
	inner, rest, err := nextField(f.text)
	if err != nil || rest != "" || inner.isBytes || inner.number != 1 {
		return errRange
	}
	v.SetInt(unzigzag(inner.n))
	return nil
}

// A binaryCoder is that of a type that encodes itself.
type binaryCoder struct{ name string }

func asBinary(v reflect.Value) binaryValue { return v.Addr().Interface().(binaryValue) }

func (binaryCoder) zero(reflect.Value) bool { return false }

func (binaryCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	b, start := beginBytes(b, number)
	b, err := asBinary(v).AppendBinary(b)
	return endBytes(b, start), err
}

func (binaryCoder) parse(v reflect.Value, f rawField) error {
	if !f.isBytes {
		return errKind
	}
	return asBinary(v).UnmarshalBinary([]byte(f.text))
}

type sliceCoder struct{ element coder }

func (sliceCoder) zero(v reflect.Value) bool { return v.IsNil() }

func (c sliceCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	b, start := beginBytes(b, number)
	for i := range v.Len() {
		var err error
		if b, err = c.element.append(b, 0, v.Index(i)); err != nil {
			return b, err
		}
	}
	return endBytes(b, start), nil
}

func (c sliceCoder) parse(v reflect.Value, f rawField) error {
	if !f.isBytes {
		return errKind
	}
	n := 0
	for data := f.text; data != ""; n++ {
		element, rest, err := nextField(data)
		if err != nil {
			return err
		}
		if element.number != 0 {
			return errRange
		}
		if n == v.Cap() {
			v.Grow(1)
		}
		v.SetLen(n + 1)
		v.Index(n).SetZero()
		if err := c.element.parse(v.Index(n), element); err != nil {
			return err
		}
		data = rest
	}
	if n == 0 {
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	}
	return nil
}

type pointerCoder struct{ to coder }

func (pointerCoder) zero(v reflect.Value) bool { return v.IsNil() }

func (c pointerCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	return c.to.append(b, number, v.Elem())
}

func (c pointerCoder) parse(v reflect.Value, f rawField) error {
	v.Set(reflect.New(v.Type().Elem()))
	return c.to.parse(v.Elem(), f)
}

type mapCoder struct{}

func (mapCoder) zero(v reflect.Value) bool { return v.Len() == 0 }

func asMap(v reflect.Value) *map[string]string { return v.Addr().Interface().(*map[string]string) }

func (mapCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	entries := *asMap(v)
	b, start := beginBytes(b, number)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		b = appendText(appendText(b, 0, name), 0, entries[name])
	}
	return endBytes(b, start), nil
}

func (mapCoder) parse(v reflect.Value, f rawField) error {
	if !f.isBytes || f.text == "" {
		return errKind
	}
	entries, last := map[string]string{}, ""
	for data := f.text; data != ""; {
		name, rest, err := nextField(data)
		if err != nil {
			return err
		}
		value, rest, err := nextField(rest)
		if err != nil {
			return err
		}
		if !name.isBytes || !value.isBytes || name.number|value.number != 0 || len(entries) > 0 && name.text <= last {
			return errRange
		}
		entries[name.text], last, data = value.text, name.text, rest
	}
	*asMap(v) = entries
	return nil
}
