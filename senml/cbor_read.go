package senml

import "strings"

func (c Codec) decodeCBOR(dst []Record, data []byte) ([]Record, error) {
	r := cborReader{s: string(data), check: checker{codec: c}, record: -1}
	out, err := r.pack(dst)
	if err == nil {
		return out, nil
	}
	if r.fromCaller {
		return dst, err
	}
	return dst, &SyntaxError{Offset: r.pos, Record: r.record, Err: err}
}

// cborReader reads a pack. Its methods return the bare category as error, with
// pos at the item at fault.
type cborReader struct {
	s          string // what strings are slices of
	pos        int
	record     int // index, -1 outside of any
	check      checker
	fromCaller bool // the error is one of Codec.Unknown
}

func (r *cborReader) pack(dst []Record) ([]Record, error) {
	start := r.pos
	h, err := r.readHead()
	if err != nil {
		return nil, err
	}
	if h.major != majorArray {
		r.pos = start
		return nil, ErrSyntax
	}
	limit := r.check.codec.maxRecords()
	room := room{typical: 12, limit: limit}
	if h.info != indefinite && h.arg < uint64(limit) {
		room.limit = int(h.arg) // not more than that, though perhaps fewer
	}
	for n := uint64(0); r.more(h, n); n++ {
		r.record++
		if r.record == limit {
			return nil, ErrTooLarge
		}
		dst = room.next(dst, r.record, r.pos, len(r.s))
		if err := r.readRecord(&dst[len(dst)-1]); err != nil {
			return nil, err
		}
	}
	if r.record < 0 && r.check.codec.Pack == Fetch && !r.check.codec.LwM2M {
		r.pos = start
		return nil, ErrValue // RFC 8790, section 3.1: at least one record
	}
	r.record = -1
	if r.pos < len(r.s) {
		return nil, ErrTrailing
	}
	return dst, r.check.checkNames(len(r.s))
}

func (r *cborReader) readRecord(rec *Record) error {
	start := r.pos
	h, err := r.readHead()
	if err != nil {
		return err
	}
	if h.major != majorMap {
		r.pos = start
		return ErrSyntax
	}
	var has labelSet
	for n := uint64(0); r.more(h, n); n++ {
		at := r.pos
		l, name, err := r.label()
		if err != nil {
			return err
		}
		if l == unknownLabel {
			if err := r.unknown(name, at); err != nil {
				return err
			}
			continue
		}
		if has.has(l) {
			r.pos = at
			return ErrLabel
		}
		has |= 1 << l
		at = r.pos
		if err := r.field(rec, l); err != nil {
			if err == ErrType || err == ErrNumber {
				r.pos = at
			}
			return err
		}
	}
	if err := r.check.check(rec, has); err != nil {
		r.pos = start
		return err
	}
	return nil
}

// labelOfKey is the inverse of keys.
var labelOfKey = func() (t [256]label) {
	for i := range t {
		t[i] = unknownLabel
	}
	for l, key := range keys {
		if key != 0xff {
			t[key] = label(l)
		}
	}
	return t
}()

// label reads the key of a field.
func (r *cborReader) label() (label, string, error) {
	if r.pos < len(r.s) {
		if l := labelOfKey[r.s[r.pos]]; l != unknownLabel {
			r.pos++
			return l, "", nil
		}
	}
	start := r.pos
	h, err := r.readHead()
	if err != nil {
		return 0, "", err
	}
	switch h.major {
	case majorText:
		r.pos = start
		name, err := r.text()
		if err != nil {
			return 0, "", err
		}
		switch l := labelOf(name); {
		case l == labelLink && r.check.codec.LwM2M:
			return labelLink, "", nil
		case l == labelLink || l == unknownLabel:
			return unknownLabel, name, nil
		}
	case majorUint, majorNegInt:
		if h.arg < 24 && h.info >= 24 { // a known key in a long form
			if l := labelOfKey[h.major|byte(h.arg)]; l != unknownLabel {
				return l, "", nil
			}
		}
	}
	r.pos = start
	return 0, "", ErrLabel
}

// field reads the value of a known field.
func (r *cborReader) field(rec *Record, l label) (err error) {
	switch l {
	case labelName: // first, for nearly every record has it
		rec.Name, err = r.text()
		return err
	case labelValue:
		if r.check.codec.Pack == Patch && r.pos < len(r.s) && r.s[r.pos] == cborNull {
			r.pos++
			rec.Value = Null()
			return nil
		}
		rec.Value.kind = NumberKind
		rec.Value.num, err = r.number()
		return err
	case labelBool:
		rec.Value.kind = BoolKind
		rec.Value.bool, err = r.bool()
		return err
	case labelData:
		var s string
		s, err = r.str(majorBytes)
		rec.Value.kind, rec.Value.data = DataKind, []byte(s)
		return err
	case labelVersion:
		h, err := r.readHead()
		if err != nil {
			return err
		}
		if h.major != majorUint {
			return ErrType
		}
		return rec.setVersion(Uint(h.arg))
	}
	if dst := rec.number(l); dst != nil {
		*dst, err = r.number()
		return err
	}
	s, err := r.text()
	if err != nil {
		return err
	}
	return rec.setText(l, s)
}

// unknown skips the value of a field that is not known.
func (r *cborReader) unknown(name string, at int) error {
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
