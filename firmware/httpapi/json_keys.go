package httpapi

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
)

// checkKeys refuses what package json accepts in silence: a key whose case is not that of the field
// of v, a key that an object has twice, and null in a list or a map, which would be an empty text.
// data is JSON that was decoded into v.
func checkKeys(data []byte, v any) error {
	w := &keyWalk{decoder: json.NewDecoder(bytes.NewReader(data))}
	w.decoder.UseNumber() // of any size
	return w.value(reflect.TypeOf(v))
}

// A keyWalk walks through JSON beside the type that it was decoded into.
type keyWalk struct {
	decoder *json.Decoder
	path    []string // of the value: names, and indexes in brackets
	noNull  bool     // the next value must not be null
}

// value walks through the next value. t is nil where keys are not those of fields.
func (w *keyWalk) value(t reflect.Type) error {
	noNull := w.noNull
	w.noNull = false
	token, err := w.decoder.Token()
	switch {
	case err != nil:
		return err
	case token == nil && noNull:
		return invalidField(w.field(), "must not be null")
	}
	switch t = plainType(t); token {
	case json.Delim('{'):
		return w.object(t)
	case json.Delim('['):
		if t != nil && t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		for i := 0; w.decoder.More(); i++ {
			if err := w.element("["+strconv.Itoa(i)+"]", t); err != nil {
				return err
			}
		}
		_, err = w.decoder.Token()
	}
	return err
}

func (w *keyWalk) object(t reflect.Type) error {
	fields := fieldsOf(t)
	seen := map[string]bool{}
	for w.decoder.More() {
		token, err := w.decoder.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if seen[name] {
			return invalidField(w.field(name), "is there more than once")
		}
		seen[name] = true
		if t != nil && t.Kind() == reflect.Map {
			if err := w.element(name, t.Elem()); err != nil {
				return err
			}
			continue
		}
		of := fields[name]
		for known := range fields {
			if of == nil && strings.EqualFold(name, known) {
				return invalidField(w.field(name), "is written "+strconv.Quote(known))
			}
		}
		if err := w.in(name, of); err != nil {
			return err
		}
	}
	_, err := w.decoder.Token()
	return err
}

// in walks through a value inside the present one.
func (w *keyWalk) in(name string, t reflect.Type) error {
	w.path = append(w.path, name)
	defer func() { w.path = w.path[:len(w.path)-1] }()
	return w.value(t)
}

// element walks through an element of a list or a map.
func (w *keyWalk) element(name string, t reflect.Type) error {
	w.noNull = t != nil && (t.Kind() == reflect.String || t.Kind() == reflect.Struct)
	return w.in(name, t)
}

// field returns the path of a field, such as stages[0].size.
func (w *keyWalk) field(name ...string) string {
	path := strings.ReplaceAll(strings.Join(append(w.path, name...), "."), ".[", "[")
	return clip(path, 40)
}

// plainType returns the type that t points at, or nil if the type decodes itself.
func plainType(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() == reflect.Interface || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	return t
}

// fieldsOf returns the types of the fields of a struct, by their names in JSON.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	fields := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			fields[name] = f.Type
		}
	}
	return fields
}
