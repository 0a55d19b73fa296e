package lwm2m

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
)

// appendOldJSON writes the request's path as base name, and names relative to it. A slash separates
// the two, unless the name is empty.
func appendOldJSON(dst []byte, base Path, entries []Entry) ([]byte, error) {
	out := append(dst, `{"bn":"`...)
	out = base.appendTo(out)
	if base.Len() < 3 && !base.IsRoot() {
		out = append(out, '/')
	}
	out = append(out, `","e":[`...)
	first := true
	for i := range entries {
		e := &entries[i]
		if e.Value.isZero() {
			continue
		}
		if e.Path.Len() < 3 || e.Value.isNull() {
			return dst, notEncodable(e.Path, "no value of a resource")
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		var err error
		if out, err = appendOldJSONElement(out, base, e); err != nil {
			return dst, err
		}
	}
	return append(out, "]}"...), nil
}

func appendOldJSONElement(dst []byte, base Path, e *Entry) ([]byte, error) {
	dst = append(dst, '{')
	if e.Path != base {
		dst = append(dst, `"n":"`...)
		if base.Len() == 3 {
			dst = append(dst, '/')
		}
		for i, id := range e.Path.ids[base.n:e.Path.n] {
			if i > 0 {
				dst = append(dst, '/')
			}
			dst = strconv.AppendUint(dst, uint64(id), 10)
		}
		dst = append(dst, `",`...)
	}
	if !e.Time.IsZero() {
		at, ok := senmlTime(e.Time)
		if !ok {
			return dst, notEncodable(e.Path, "times before 1978-07-04 would be relative to now")
		}
		dst = append(dst, `"t":`...)
		dst = append(dst, at.String()...)
		dst = append(dst, ',')
	}
	dst, err := appendOldJSONValue(dst, e)
	return append(dst, '}'), err
}

func appendOldJSONValue(dst []byte, e *Entry) ([]byte, error) {
	v := e.Value
	switch v.typ {
	case TypeBoolean:
		return strconv.AppendBool(append(dst, `"bv":`...), v.num == 1), nil
	case TypeObjectLink:
		return append(appendObjectLink(append(dst, `"ov":"`...), v), '"'), nil
	case TypeOpaque:
		dst = append(dst, `"sv":"`...)
		return append(base64.StdEncoding.AppendEncode(dst, []byte(v.str)), '"'), nil
	case TypeString, TypeCoreLink:
		text, err := json.Marshal(v.str)
		return append(append(dst, `"sv":`...), text...), err
	case TypeFloat:
		if !v.isFinite() {
			return dst, notEncodable(e.Path, "JSON has no such number")
		}
	}
	return v.appendText(append(dst, `"v":`...)), nil
}
