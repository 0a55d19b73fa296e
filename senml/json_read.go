package senml

import "strings"

// DecodeJSON appends the records of the JSON pack in data to dst, without applying base fields. The
// error is a [*SyntaxError]; dst is then returned as it was. The records do not refer to data.
func (c Codec) DecodeJSON(dst []Record, data []byte) ([]Record, error) {
	r := jsonReader{s: string(data), check: checker{codec: c}, record: -1}
	out, err := r.pack(dst)
	if err == nil {
		return out, nil
	}
	if err == ErrSyntax && r.pos >= len(r.s) {
		err = ErrTruncated
	}
	return dst, &SyntaxError{Offset: min(r.pos, len(r.s)), Record: r.record, Err: err}
}

// jsonReader reads a pack. Its methods return the bare category as error, with pos at its place.
type jsonReader struct {
	s      string // the strings of records are slices of it
	pos    int
	record int // index; -1 outside of any record
	check  checker
}

func (r *jsonReader) pack(dst []Record) ([]Record, error) {
	if r.token() != '[' {
		return nil, r.unexpected()
	}
	if r.token() == ']' {
		if r.check.codec.Pack == Fetch && !r.check.codec.LwM2M {
			return nil, ErrValue // RFC 8790, section 3.1: at least one record
		}
	} else {
		r.back()
		var err error
		if dst, err = r.records(dst); err != nil {
			return nil, err
		}
	}
	r.record = -1
	r.space()
	if r.pos < len(r.s) {
		return nil, ErrTrailing
	}
	return dst, r.check.checkNames(len(r.s))
}

// records reads the records of a pack, at least one, and the bracket after them.
func (r *jsonReader) records(dst []Record) ([]Record, error) {
	room := room{typical: 20, limit: r.check.codec.maxRecords()}
	for {
		r.record++
		if r.record == room.limit {
			return nil, ErrTooLarge
		}
		dst = room.next(dst, r.record, r.pos, len(r.s))
		if err := r.readRecord(&dst[len(dst)-1]); err != nil {
			return nil, err
		}
		switch r.token() {
		case ',':
		case ']':
			return dst, nil
		default:
			return nil, r.unexpected()
		}
	}
}

func (r *jsonReader) readRecord(rec *Record) error {
	if r.token() != '{' {
		return r.unexpected()
	}
	start := r.pos - 1
	var has labelSet
	if r.token() != '}' {
		r.back()
		var err error
		if has, err = r.fields(rec); err != nil {
			return err
		}
	}
	if err := r.check.check(rec, has); err != nil {
		r.pos = start
		return err
	}
	return nil
}

// fields reads the fields of a record, at least one, and the brace after them.
func (r *jsonReader) fields(rec *Record) (has labelSet, err error) {
	for {
		if r.token() != '"' {
			return 0, r.unexpected()
		}
		at := r.pos - 1
		l, name, err := r.label()
		if err != nil {
			return 0, err
		}
		if r.token() != ':' {
			return 0, r.unexpected()
		}
		r.space()
		if l == unknownLabel || l == labelLink && !r.check.codec.LwM2M {
			err = r.unknown(name, at)
		} else if has.has(l) {
			r.pos = at
			return 0, ErrLabel
		} else {
			has |= 1 << l
			at = r.pos
			if err = r.field(rec, l); err == ErrType || err == ErrNumber {
				r.pos = at
			}
		}
		if err != nil {
			return 0, err
		}
		switch r.token() {
		case ',':
		case '}':
			return has, nil
		default:
			return 0, r.unexpected()
		}
	}
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
	case labelName: // first, because nearly every record has it
		rec.Name, err = r.text()
		return err
	case labelValue:
		if r.check.codec.Pack == Patch && r.word("null") {
			rec.Value = Null()
			return nil
		}
		rec.Value.kind = NumberKind
		rec.Value.num, err = r.number()
		return err
	case labelBool:
		rec.Value.kind = BoolKind
		if rec.Value.bool = r.word("true"); rec.Value.bool || r.word("false") {
			return nil
		}
		return r.mistyped()
	case labelVersion:
		n, err := r.number()
		if err != nil {
			return err
		}
		return rec.setVersion(n)
	}
	if dst := rec.number(l); dst != nil {
		*dst, err = r.number()
		return err
	}
	s, err := r.text()
	if err != nil {
		return err
	}
	if l == labelData {
		var ok bool
		rec.Value.kind = DataKind
		if rec.Value.data, ok = decodeBase64(s); !ok {
			return ErrType
		}
		return nil
	}
	return rec.setText(l, s)
}

// word skips the word w and reports whether it was there.
func (r *jsonReader) word(w string) bool {
	if !strings.HasPrefix(r.s[r.pos:], w) {
		return false
	}
	r.pos += len(w)
	return true
}

// unknown skips the value of an unknown field.
func (r *jsonReader) unknown(name string, at int) error {
	if err := r.skip(maxDepth); err != nil {
		return err
	}
	if strings.HasSuffix(name, "_") {
		r.pos = at
		return ErrMustUnderstand
	}
	return nil
}
