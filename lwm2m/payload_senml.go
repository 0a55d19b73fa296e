package lwm2m

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/otago-iot/otago/senml"
)

// senmlFormat is one of the four SenML formats, with the root of the peer.
type senmlFormat struct {
	format ContentFormat
	cbor   bool
	codec  senml.Codec
}

func (c codec) senml(f ContentFormat) senmlFormat {
	s := senmlFormat{format: f, codec: senml.Codec{LwM2M: true, Root: c.root}}
	s.cbor = f == FormatSenMLCBOR || f == formatSenMLETCHCBOR
	if f == formatSenMLETCHJSON || f == formatSenMLETCHCBOR {
		s.codec.Pack = senml.Patch
	}
	return s
}

func appendSenML(dst []byte, f senmlFormat, base Path, entries []Entry) ([]byte, error) {
	lent := senmlRecords.Get().(*[]senml.Record)
	pack, err := senmlPack(*lent, f.codec.Root, base, entries)
	defer func() { returnRecords(lent, pack) }()
	if err != nil {
		return dst, err
	}
	return f.append(dst, pack)
}

func (f senmlFormat) append(dst []byte, pack []senml.Record) ([]byte, error) {
	encode := f.codec.AppendJSON
	if f.cbor {
		encode = f.codec.AppendCBOR
	}
	out, err := encode(dst, pack)
	if err != nil {
		return dst, fmt.Errorf("%w: %w", ErrNotEncodable, err)
	}
	return out, nil
}

// senmlPack makes records of entries, in the memory of pack if they fit: the base name is root and
// the request's path, names are the rest. All names share one string.
func senmlPack(pack []senml.Record, root string, base Path, entries []Entry) ([]senml.Record, error) {
	pack = slices.Grow(pack[:0], len(entries))
	prefix := senmlPrefix(base, entries)
	names := make([]byte, 0, 8*len(entries))
	ends := make([]int, 0, len(entries))
	var at time.Time // the base time in force
	for i := range entries {
		e := &entries[i]
		if e.Value.isZero() {
			continue
		}
		if e.Path.Len() < 3 {
			return pack, notEncodable(e.Path, "values are of resources")
		}
		r := senml.Record{Value: senmlValue(e.Value)}
		if len(pack) == 0 {
			r.BaseName = root + prefix
		}
		if !e.Time.Equal(at) {
			at = e.Time
			var ok bool
			if r.BaseTime, ok = senmlTime(at); !ok {
				return pack, notEncodable(e.Path, "times before 1978-07-04 would be relative to now")
			}
		}
		start := len(names)
		names = e.Path.appendTo(names)
		names = append(names[:start], names[start+len(prefix):]...)
		ends = append(ends, len(names))
		pack = append(pack, r)
	}
	text, start := string(names), 0
	for i, end := range ends {
		pack[i].Name, start = text[start:end], end
	}
	return pack, nil
}

// senmlTime returns a time in seconds since 1970; 0, which means now, for the zero Time. ok is
// false for an earlier time than senml.AbsoluteTime: receivers would take its number as relative to
// now.
func senmlTime(t time.Time) (n senml.Number, ok bool) {
	if t.IsZero() {
		return senml.Int(0), true
	}
	return senml.UnixTime(t), t.Unix() >= senml.AbsoluteTime
}

// senmlPrefix returns the base name, without the root, for entries of a request for base.
func senmlPrefix(base Path, entries []Entry) string {
	switch {
	case base.IsRoot():
		return ""
	case slices.ContainsFunc(entries, func(e Entry) bool { return e.Path == base }):
		return base.String() // the name of that entry is empty, those below it start with the slash
	default:
		return base.String() + "/"
	}
}

func senmlValue(v Value) senml.Value {
	switch v.typ {
	case TypeInteger, TypeTime:
		return senml.Num(senml.Int(int64(v.num)))
	case TypeUnsigned:
		return senml.Num(senml.Uint(v.num))
	case TypeFloat:
		return senml.Num(senml.Float(math.Float64frombits(v.num)))
	case TypeBoolean:
		return senml.Bool(v.num == 1)
	case TypeOpaque:
		return senml.Data([]byte(v.str))
	case TypeObjectLink:
		return senml.Link(v.String())
	case TypeNull:
		return senml.Null()
	default:
		return senml.String(v.str)
	}
}

func decodeSenML(f senmlFormat, base Path, payload []byte, m modelView) ([]Entry, error) {
	d := senmlDecoder{senmlFormat: f, payload: payload}
	d.codec.MaxRecords = maxRecords(len(payload))
	lent := senmlRecords.Get().(*[]senml.Record)
	pack, err := d.decode(*lent)
	defer func() { returnRecords(lent, pack) }()
	if err != nil || len(pack) == 0 {
		return nil, err
	}
	c := pathCollector{base: base, types: typeLookup{view: m}, history: true, entries: make([]Entry, 0, len(pack))}
	var now time.Time
	for i := range pack {
		p, ok := d.path(&pack[i])
		if !ok {
			return nil, d.fail(i, "name is not a path")
		}
		v, ok := valueOfSenML(pack[i].Value)
		if !ok {
			return nil, d.fail(i, "record without value")
		}
		if refused := c.add(p, v); refused != "" {
			return nil, d.fail(i, refused)
		}
		if !pack[i].Time.IsSet() {
			continue
		}
		if now.IsZero() {
			now = time.Now()
		}
		c.entries[i].Time = pack[i].Timestamp(now)
	}
	return c.entries, nil
}

func valueOfNumber(n senml.Number) Value {
	if i, ok := n.Int64(); ok {
		return Integer(i)
	}
	if u, ok := n.Uint64(); ok {
		return Unsigned(u)
	}
	return Float(n.Float64())
}

func valueOfSenML(v senml.Value) (Value, bool) {
	switch v.Kind() {
	case senml.NumberKind:
		return valueOfNumber(v.Number()), true
	case senml.StringKind:
		return String(v.Text()), true
	case senml.BoolKind:
		return Boolean(v.Bool()), true
	case senml.DataKind:
		return Opaque(v.Data()), true
	case senml.LinkKind:
		return parseObjectLink(v.Text())
	case senml.NullKind:
		return Null(), true
	default:
		return Value{}, false
	}
}

// appendSenMLPaths writes the names of a composite request.
func appendSenMLPaths(dst []byte, f senmlFormat, paths []Path) ([]byte, error) {
	f.codec.Pack = senml.Fetch
	pack := make([]senml.Record, len(paths))
	for i, p := range paths {
		pack[i].Name = f.codec.Root + p.String()
	}
	return f.append(dst, pack)
}

func decodeSenMLPaths(f senmlFormat, payload []byte) ([]Path, error) {
	d := senmlDecoder{senmlFormat: f, payload: payload}
	d.codec.Pack = senml.Fetch
	d.codec.MaxRecords = maxRecords(len(payload))
	pack, err := d.decode(nil)
	if err != nil || len(pack) == 0 {
		return nil, err
	}
	paths := make([]Path, len(pack))
	for i := range pack {
		var ok bool
		if paths[i], ok = d.path(&pack[i]); !ok {
			return nil, d.fail(i, "name is not a path")
		}
	}
	return paths, nil
}
