// Package record writes structs as short binary records, for stores.
//
// A record is the fields of a struct that are not zero, by rising number. The tag of a field has
// its number: `record:"7"`. A number stands for its field forever; the number of a removed field is
// not used again. A reader skips numbers that it does not know, so that a new field needs no new
// format.
//
// Each field is a head, which is an unsigned varint of twice its number, plus one if bytes follow,
// and then an unsigned varint, or a length and as many bytes:
//
//	bool, unsigned integers   their value
//	signed integers           zigzag, as encoding/binary has it
//	float64                   the bits of IEEE 754, the last one first
//	string                    bytes; a word of [Enum] or [Common] by its place in the list, from 1
//	string, tag "N,hex"       bytes: a zero and the text, or a one and what lower-case digits encode
//	string, tag "N,ulid"      bytes: a zero and the text, or a one and the 16 bytes of a ULID
//	time.Time                 the time since 2024, in nanoseconds or microseconds; UTC
//	time.Duration             nanoseconds or seconds
//	struct                    a record
//	slice                     its elements, as fields with the number 0; an empty slice is not nil
//	map[string]string         names and values in turn, by rising name
//	pointer                   what it points at; nil is left out, and a zero is not
//	other types               what their AppendBinary appends, if they have it
//
// Decode takes any input: it refuses what is cut, out of order or out of range, and allocates no
// more than a small multiple of the input's length.
package record

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Codec writes and reads values of a struct type. It is safe for concurrent use.
type Codec[T any] struct{ fields func() *structCoder }

// Of returns the codec of T, a struct. All its exported fields, and those of the structs in it,
// need a tag; `record:"-"` leaves a field out. The codec panics when it is first used if the type
// does not fit.
func Of[T any]() *Codec[T] {
	return &Codec[T]{sync.OnceValue(func() *structCoder { return compileStruct(reflect.TypeFor[T](), nil) })}
}

// Append appends the record of v. It fails for a value of an [Enum] that is not in its list, and
// for a time outside the years 0 to 9999.
func (c *Codec[T]) Append(b []byte, v *T) ([]byte, error) {
	return c.AppendRange(b, v, 1, math.MaxUint64)
}

// AppendRange appends the fields from number first to last. Ranges that are appended in their order
// are one record.
func (c *Codec[T]) AppendRange(b []byte, v *T, first, last uint64) ([]byte, error) {
	return c.fields().appendFields(b, reflect.ValueOf(v).Elem(), first, last)
}

// Decode sets *v to the record in data, which it copies, once for all texts. After an error *v is
// not complete.
func (c *Codec[T]) Decode(data []byte, v *T) error {
	var zero T
	*v = zero
	return c.fields().parseFields(reflect.ValueOf(v).Elem(), string(data))
}

// From returns the part of a record that has the fields from a number on. It reports false if it
// cannot read the fields before.
func From(data []byte, number uint64) (part []byte, ok bool) {
	for rest := string(data); rest != ""; {
		f, after, err := nextField(rest)
		switch {
		case err != nil:
			return nil, false
		case f.number >= number:
			return data[len(data)-len(rest):], true
		}
		rest = after
	}
	return nil, true
}

// A coder writes and reads the values of one type.
type coder interface {
	// zero reports whether a field with this value is left out.
	zero(v reflect.Value) bool
	// append appends a field.
	append(b []byte, number uint64, v reflect.Value) ([]byte, error)
	// parse sets v, which is zero before.
	parse(v reflect.Value, f rawField) error
}

type field struct {
	number uint64
	index  int
	name   string
	coder
}

// A structCoder has the fields by rising number.
type structCoder struct {
	name   string
	fields []field
}

func compileStruct(t reflect.Type, outer []reflect.Type) *structCoder {
	for _, o := range outer {
		if o == t {
			panic("record: " + t.String() + " contains itself")
		}
	}
	s := &structCoder{name: t.Name()}
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("record")
		if tag == "-" || tag == "" && !f.IsExported() && !f.Anonymous {
			continue
		}
		digits, option, _ := strings.Cut(tag, ",")
		number, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || number == 0 {
			panic("record: " + t.String() + "." + f.Name + " has no number")
		}
		s.fields = append(s.fields, field{number, i, f.Name, compile(f.Type, option, append(outer, t))})
		for at := len(s.fields) - 1; at > 0 && s.fields[at-1].number >= number; at-- {
			if s.fields[at-1].number == number {
				panic("record: " + t.String() + "." + f.Name + " has the number of another field")
			}
			s.fields[at-1], s.fields[at] = s.fields[at], s.fields[at-1]
		}
	}
	return s
}

// compile returns the coder of a type.
func compile(t reflect.Type, option string, outer []reflect.Type) coder {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return timeCoder{}
	case t == reflect.TypeFor[time.Duration]():
		return durationCoder{}
	case reflect.PointerTo(t).Implements(reflect.TypeFor[binaryValue]()):
		return binaryCoder{t.Name()}
	}
	switch t.Kind() {
	case reflect.Bool:
		return boolCoder{}
	case reflect.Float64:
		return floatCoder{}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return intCoder{}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return uintCoder{}
	case reflect.String:
		if option == "hex" {
			return hexCoder{}
		}
		if option == "ulid" {
			return ulidCoder{}
		}
		if words := wordsOf(t); words != nil {
			return words
		}
		return textCoder{}
	case reflect.Struct:
		return compileStruct(t, outer)
	case reflect.Slice:
		return sliceCoder{compile(t.Elem(), option, outer)}
	case reflect.Pointer:
		to := compile(t.Elem(), option, outer)
		if _, isStruct := to.(*structCoder); !isStruct { // a struct of zeros would come back as nil
			return pointerCoder{to}
		}
	case reflect.Map:
		if t == reflect.TypeFor[map[string]string]() {
			return mapCoder{}
		}
	}
	panic("record: type " + t.String())
}

// A binaryValue encodes itself.
type binaryValue interface {
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

func (s *structCoder) zero(reflect.Value) bool { return false }

func (s *structCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	b, start := beginBytes(b, number)
	b, err := s.appendFields(b, v, 1, math.MaxUint64)
	if err == nil && len(b) == start && number != 0 {
		return b[:start-2-more(number)], nil // all its fields are zero
	}
	return endBytes(b, start), err
}

func (s *structCoder) appendFields(b []byte, v reflect.Value, first, last uint64) ([]byte, error) {
	for i := range s.fields {
		f := &s.fields[i]
		value := v.Field(f.index)
		if f.number < first || f.number > last || f.zero(value) {
			continue
		}
		var err error
		if b, err = f.append(b, f.number, value); err != nil {
			return b, fmt.Errorf("%s.%w", s.name, wrap(f.name, err))
		}
	}
	return b, nil
}

func (s *structCoder) parse(v reflect.Value, f rawField) error {
	if !f.isBytes {
		return errKind
	}
	return s.parseFields(v, f.text)
}

func (s *structCoder) parseFields(v reflect.Value, data string) error {
	last, at := uint64(0), 0
	for len(data) > 0 {
		f, rest, err := nextField(data)
		if err != nil {
			return err
		}
		if f.number <= last {
			return errors.New("record: fields are not in order")
		}
		last, data = f.number, rest
		for at < len(s.fields) && s.fields[at].number < f.number {
			at++
		}
		if at == len(s.fields) || s.fields[at].number != f.number {
			continue
		}
		known := &s.fields[at]
		if err := known.parse(v.Field(known.index), f); err != nil {
			return fmt.Errorf("%s.%w", s.name, wrap(known.name, err))
		}
	}
	return nil
}

// wrap names the field that an error is about.
func wrap(field string, err error) error { return fmt.Errorf("%s: %w", field, err) }
