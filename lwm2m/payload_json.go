package lwm2m

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"time"
	"unicode/utf8"

	"github.com/otago-iot/otago/senml"
)

// The JSON of LwM2M 1.0 (Content-Format 11543): an object with the base name bn, the base time bt
// and the array e of elements with a name n, a time t and one of v, bv, ov and sv.

type oldJSONElement struct {
	name  string
	value Value
	time  float64
	timed bool
	at    int
}

type oldJSONDecoder struct {
	dec      *json.Decoder
	size     int
	baseName string
	baseTime float64
	elements []oldJSONElement
}

func decodeOldJSON(base Path, payload []byte, m modelView) ([]Entry, error) {
	if !utf8.Valid(payload) { // encoding/json would replace it silently
		return nil, &FormatError{Format: FormatJSON, Offset: invalidUTF8(payload), Reason: "text is not UTF-8"}
	}
	d := oldJSONDecoder{dec: json.NewDecoder(bytes.NewReader(payload)), size: len(payload)}
	d.dec.UseNumber()
	if err := d.document(); err != nil {
		return nil, err
	}
	c := pathCollector{base: base, types: typeLookup{view: m}, history: true, entries: make([]Entry, 0, len(d.elements))}
	for _, e := range d.elements {
		p, ok := parsePath(d.baseName + e.name)
		if !ok || p.Len() < 3 {
			return nil, &FormatError{Format: FormatJSON, Offset: e.at, Reason: "name is not the path of a resource"}
		}
		// Opaque is base64 in a string, and only the model tells them apart.
		if e.value.typ == TypeString && c.types.typeOf(p) == TypeOpaque {
			e.value, ok = parseText(e.value.str, TypeOpaque)
			if !ok {
				return nil, &FormatError{Format: FormatJSON, Offset: e.at, Reason: "bad base64"}
			}
		}
		if refused := c.add(p, e.value); refused != "" {
			return nil, &FormatError{Format: FormatJSON, Offset: e.at, Reason: refused}
		}
		if e.timed || d.baseTime != 0 {
			c.entries[len(c.entries)-1].Time = resolveTime(d.baseTime + e.time)
		}
	}
	return c.entries, nil
}

// resolveTime reads a time, which is relative to now or absolute as in SenML.
func resolveTime(seconds float64) time.Time {
	r := senml.Record{Time: senml.Float(seconds)}
	return r.Timestamp(time.Now())
}

func (d *oldJSONDecoder) fail(reason string) error {
	return &FormatError{Format: FormatJSON, Offset: int(d.dec.InputOffset()), Reason: reason}
}

func (d *oldJSONDecoder) token() (json.Token, error) {
	t, err := d.dec.Token()
	if err == nil {
		return t, nil
	}
	offset := int(d.dec.InputOffset())
	if se, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = int(se.Offset)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		offset = d.size
	}
	return nil, &FormatError{Format: FormatJSON, Offset: min(offset, d.size), Reason: "bad JSON", Err: err}
}

// members calls f for each member of the object that comes next.
func (d *oldJSONDecoder) members(f func(name string) error) error {
	t, err := d.token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return d.fail("not an object")
	}
	var seen [len(oldJSONLabels)]bool
	for d.dec.More() {
		t, err := d.token()
		if err != nil {
			return err
		}
		name, _ := t.(string) // names of members are strings, or token fails
		if i := labelIndex(name); i >= 0 {
			if seen[i] {
				return d.fail("member " + name + " occurs twice")
			}
			seen[i] = true
		}
		if err := f(name); err != nil {
			return err
		}
	}
	_, err = d.token()
	return err
}

var oldJSONLabels = [...]string{"bn", "bt", "e", "n", "t", "v", "bv", "ov", "sv"}

func labelIndex(name string) int {
	for i, l := range oldJSONLabels {
		if l == name {
			return i
		}
	}
	return -1
}

func (d *oldJSONDecoder) document() error {
	found := false
	err := d.members(func(name string) (err error) {
		switch name {
		case "bn":
			d.baseName, err = d.text()
		case "bt":
			d.baseTime, err = d.number()
		case "e":
			found = true
			err = d.list()
		default:
			err = d.skip()
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case !found:
		return d.fail("member e is missing")
	}
	if _, err := d.dec.Token(); !errors.Is(err, io.EOF) {
		return d.fail("data after the end")
	}
	return nil
}

func (d *oldJSONDecoder) list() error {
	t, err := d.token()
	if err != nil {
		return err
	}
	if t != json.Delim('[') {
		return d.fail("e is not an array")
	}
	for d.dec.More() {
		if err := d.element(); err != nil {
			return err
		}
	}
	_, err = d.token()
	return err
}

func (d *oldJSONDecoder) element() error {
	e := oldJSONElement{at: int(d.dec.InputOffset())}
	set := func(v Value, err error) error {
		if err == nil && !e.value.isZero() {
			return d.fail("more than one value")
		}
		e.value = v
		return err
	}
	err := d.members(func(name string) (err error) {
		switch name {
		case "n":
			e.name, err = d.text()
		case "t":
			e.timed = true
			e.time, err = d.number()
		case "v", "bv", "ov", "sv":
			err = set(d.value(name))
		default:
			err = d.skip()
		}
		return err
	})
	if err == nil && e.value.isZero() {
		return d.fail("element without value")
	}
	d.elements = append(d.elements, e)
	return err
}

func (d *oldJSONDecoder) value(label string) (Value, error) {
	t, err := d.token()
	if err != nil {
		return Value{}, err
	}
	switch t := t.(type) {
	case json.Number:
		if v, ok := parseNumber(string(t)); ok && label == "v" {
			return v, nil
		}
	case bool:
		if label == "bv" {
			return Boolean(t), nil
		}
	case string:
		if label == "sv" {
			return String(t), nil
		}
		if v, ok := parseObjectLink(t); ok && label == "ov" {
			return v, nil
		}
	}
	return Value{}, d.fail("bad value of " + label)
}

func (d *oldJSONDecoder) text() (string, error) {
	t, err := d.token()
	s, ok := t.(string)
	if err == nil && !ok {
		err = d.fail("not a string")
	}
	return s, err
}

func (d *oldJSONDecoder) number() (float64, error) {
	t, err := d.token()
	if err != nil {
		return 0, err
	}
	n, ok := t.(json.Number)
	if !ok {
		return 0, d.fail("not a number")
	}
	f, ferr := n.Float64()
	if ferr != nil {
		return 0, d.fail("number out of range")
	}
	return f, nil
}

// skip skips the value of an unknown member.
func (d *oldJSONDecoder) skip() error {
	for depth := 0; ; {
		t, err := d.token()
		if err != nil {
			return err
		}
		if delim, ok := t.(json.Delim); ok {
			if delim == '{' || delim == '[' {
				depth++
			} else {
				depth--
			}
		}
		if depth == 0 {
			return nil
		}
	}
}
