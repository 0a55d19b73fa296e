package senml

import (
	"strings"
	"unicode/utf8"
)

func (c Codec) decodeJSON(dst []Record, data []byte) ([]Record, error) {
	r := jsonReader{s: string(data), check: checker{codec: c}, record: -1}
	out, err := r.pack(dst)
	if err == nil {
		return out, nil
	}
	if r.fromCaller {
		return dst, err
	}
	if err == ErrSyntax && r.pos >= len(r.s) {
		err = ErrTruncated
	}
	return dst, &SyntaxError{Offset: min(r.pos, len(r.s)), Record: r.record, Err: err}
}

// jsonReader reads a pack. Its methods return the bare category as error, with
// pos where it is.
type jsonReader struct {
	s          string // what strings are slices of
	pos        int
	record     int // index, -1 outside of any
	check      checker
	fromCaller bool // the error is one of Codec.Unknown
}

func (r *jsonReader) pack(dst []Record) ([]Record, error) {
	if !r.next('[') {
		return nil, ErrSyntax
	}
	limit := r.check.codec.maxRecords()
	if !r.next(']') {
		for {
			r.record++
			if r.record == limit {
				return nil, ErrTooLarge
			}
			dst = nextRecord(dst, r.record, r.pos, len(r.s), limit)
			if err := r.readRecord(&dst[len(dst)-1]); err != nil {
				return nil, err
			}
			if r.next(',') {
				continue
			}
			if !r.next(']') {
				return nil, ErrSyntax
			}
			break
		}
	} else if r.check.codec.Pack == Fetch && !r.check.codec.LwM2M {
		return nil, ErrValue // RFC 8790, section 3.1: at least one record
	}
	r.record = -1
	r.space()
	if r.pos < len(r.s) {
		return nil, ErrTrailing
	}
	return dst, nil
}

func (r *jsonReader) readRecord(rec *Record) error {
	if !r.next('{') {
		return ErrSyntax
	}
	start := r.pos - 1
	var has labelSet
	if !r.next('}') {
		for {
			if !r.next('"') {
				return ErrSyntax
			}
			at := r.pos - 1
			l, name, err := r.label()
			if err != nil {
				return err
			}
			if has.has(l) && l != unknownLabel {
				r.pos = at
				return ErrLabel
			}
			if !r.next(':') {
				return ErrSyntax
			}
			has |= 1 << l
			r.space()
			if l == unknownLabel || l == labelLink && !r.check.codec.LwM2M {
				has &^= 1 << l
				if err := r.unknown(name, at); err != nil {
					return err
				}
			} else {
				at = r.pos
				if err := r.field(rec, l); err != nil {
					if err == ErrType || err == ErrNumber {
						r.pos = at
					}
					return err
				}
			}
			if r.next(',') {
				continue
			}
			if !r.next('}') {
				return ErrSyntax
			}
			break
		}
	}
	if err := r.check.check(rec, has); err != nil {
		r.pos = start
		return err
	}
	return nil
}

// label reads a member name, after its opening quote.
func (r *jsonReader) label() (label, string, error) {
	// All labels but two have one or two letters.
	if s := r.s[r.pos:]; len(s) > 2 {
		if s[1] == '"' {
			if l := labelOf(s[:1]); l != unknownLabel {
				r.pos += 2
				return l, "", nil
			}
		} else if s[2] == '"' {
			if l := labelOf(s[:2]); l != unknownLabel {
				r.pos += 3
				return l, "", nil
			}
		}
	}
	name, err := r.stringRest()
	return labelOf(name), name, err
}

// field reads the value of a known field.
func (r *jsonReader) field(rec *Record, l label) (err error) {
	switch l {
	case labelName:
		rec.Name, err = r.text()
	case labelValue:
		if strings.HasPrefix(r.s[r.pos:], "null") && r.check.codec.Pack == Patch {
			r.pos += len("null")
			rec.Value = Null
			return nil
		}
		rec.Value.kind = NumberKind
		rec.Value.num, err = r.number()
	case labelString:
		rec.Value.kind = StringKind
		rec.Value.text, err = r.text()
	case labelBool:
		rec.Value.kind = BoolKind
		switch s := r.s[r.pos:]; {
		case strings.HasPrefix(s, "true"):
			rec.Value.bool = true
			r.pos += len("true")
		case strings.HasPrefix(s, "false"):
			r.pos += len("false")
		default:
			return r.mistyped()
		}
	case labelData:
		rec.Value.kind = DataKind
		var s string
		if s, err = r.text(); err == nil {
			var ok bool
			if rec.Value.data, ok = decodeBase64(s); !ok {
				return ErrType
			}
		}
	case labelLink:
		rec.Value.kind = LinkKind
		if rec.Value.text, err = r.text(); err == nil && !goodLink(rec.Value.text) {
			return ErrType
		}
	case labelUnit:
		if rec.Unit, err = r.text(); rec.Unit == "" {
			rec.Empty |= EmptyUnit
		}
	case labelTime:
		rec.Time, err = r.number()
	case labelUpdateTime:
		rec.UpdateTime, err = r.number()
	case labelSum:
		rec.Sum, err = r.number()
	case labelBaseName:
		if rec.BaseName, err = r.text(); rec.BaseName == "" {
			rec.Empty |= EmptyBaseName
		}
	case labelBaseUnit:
		if rec.BaseUnit, err = r.text(); rec.BaseUnit == "" {
			rec.Empty |= EmptyBaseUnit
		}
	case labelBaseTime:
		rec.BaseTime, err = r.number()
	case labelBaseValue:
		rec.BaseValue, err = r.number()
	case labelBaseSum:
		rec.BaseSum, err = r.number()
	case labelVersion:
		var n Number
		if n, err = r.number(); err == nil {
			rec.BaseVersion, err = versionOf(n)
		}
	}
	return err
}

// versionOf returns n as a version. What is no positive integer has the wrong
// type.
func versionOf(n Number) (int, error) {
	v, ok := n.Uint64()
	if !ok || v == 0 {
		return 0, ErrType
	}
	return int(min(v, MaxVersion+1)), nil
}

// unknown skips the value of a field that is not known.
func (r *jsonReader) unknown(name string, at int) error {
	start := r.pos
	if err := r.skip(maxDepth); err != nil {
		return err
	}
	if hook := r.check.codec.Unknown; hook != nil {
		err := hook(r.record, name, r.s[start:r.pos])
		r.fromCaller = err != nil
		return err
	}
	if strings.HasSuffix(name, "_") {
		r.pos = at
		return ErrMustUnderstand
	}
	return nil
}

// skip passes over any JSON value, which may nest depth levels.
func (r *jsonReader) skip(depth int) error {
	r.space()
	if r.pos == len(r.s) {
		return ErrSyntax
	}
	switch c := r.s[r.pos]; c {
	case '"':
		r.pos++
		_, err := r.stringRest()
		return err
	case '[', '{':
		if depth == 0 {
			return ErrTooLarge
		}
		r.pos++
		closing := c + 2 // ']' and '}' in ASCII
		if r.next(closing) {
			return nil
		}
		for {
			if c == '{' {
				if !r.next('"') {
					return ErrSyntax
				}
				if _, err := r.stringRest(); err != nil {
					return err
				}
				if !r.next(':') {
					return ErrSyntax
				}
			}
			if err := r.skip(depth - 1); err != nil {
				return err
			}
			if r.next(closing) {
				return nil
			}
			if !r.next(',') {
				return ErrSyntax
			}
		}
	case 't', 'f', 'n':
		for _, word := range [...]string{"true", "false", "null"} {
			if strings.HasPrefix(r.s[r.pos:], word) {
				r.pos += len(word)
				return nil
			}
		}
		return ErrSyntax
	}
	if c := r.s[r.pos]; c != '-' && (c < '0' || c > '9') {
		return ErrSyntax // or number would ask skip again
	}
	_, err := r.number()
	if err == ErrType {
		return ErrSyntax
	}
	if err == ErrNumber {
		return nil // well-formed, and nobody asked
	}
	return err
}

// space skips white space.
func (r *jsonReader) space() {
	for r.pos < len(r.s) {
		switch r.s[r.pos] {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return
		}
	}
}

// next skips white space and c, and reports whether c was there.
func (r *jsonReader) next(c byte) bool {
	if r.pos < len(r.s) && r.s[r.pos] == c {
		r.pos++
		return true
	}
	r.space()
	if r.pos < len(r.s) && r.s[r.pos] == c {
		r.pos++
		return true
	}
	return false
}

// mistyped returns ErrType if any JSON value could begin here, else ErrSyntax.
func (r *jsonReader) mistyped() error {
	start := r.pos
	if err := r.skip(maxDepth); err != nil {
		return err
	}
	r.pos = start
	return ErrType
}

// text reads a string that is the value of a field.
func (r *jsonReader) text() (string, error) {
	if r.pos == len(r.s) || r.s[r.pos] != '"' {
		return "", r.mistyped()
	}
	r.pos++
	return r.stringRest()
}

// stringRest reads a string after its opening quote.
func (r *jsonReader) stringRest() (string, error) {
	s, start := r.s, r.pos
	var high byte
	for i := start; i < len(s); i++ {
		c := s[i]
		high |= c
		if plainJSON[c] {
			continue
		}
		if c != '"' {
			r.pos = i
			if c == '\\' {
				return r.unescape(start)
			}
			return "", ErrSyntax
		}
		r.pos = i + 1
		if high >= utf8.RuneSelf && !utf8.ValidString(s[start:i]) {
			r.pos = start
			return "", ErrSyntax
		}
		return s[start:i], nil
	}
	r.pos = len(s)
	return "", ErrSyntax
}
