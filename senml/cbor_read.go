package senml

import (
	"math"
	"strings"

	"github.com/otago-iot/otago/internal/cbor"
)

// DecodeCBOR appends the records of the CBOR pack in data to dst, without applying base fields. The
// error is a [*SyntaxError]; dst is then returned as it was. The records do not refer to data.
func (c Codec) DecodeCBOR(dst []Record, data []byte) ([]Record, error) {
	r := cborReader{Reader: cbor.Reader{S: string(data)}, check: checker{codec: c}, record: -1}
	out, err := r.pack(dst)
	if err == nil {
		return out, nil
	}
	return dst, &SyntaxError{Offset: r.Pos, Record: r.record, Err: categoryOf(err)}
}

// categoryOf returns this package's name for a category of package cbor.
func categoryOf(err error) error {
	switch err {
	case cbor.ErrSyntax:
		return ErrSyntax
	case cbor.ErrTruncated:
		return ErrTruncated
	case cbor.ErrType:
		return ErrType
	case cbor.ErrRange:
		return ErrNumber
	case cbor.ErrDepth:
		return ErrTooLarge
	}
	return err
}

// cborReader reads a pack. Its methods return the bare category as error, with Pos at the item that
// caused it.
type cborReader struct {
	cbor.Reader
	record int // index; -1 outside of any record
	check  checker
}

func (r *cborReader) pack(dst []Record) ([]Record, error) {
	start := r.Pos
	h, err := r.Head()
	if err != nil {
		return nil, err
	}
	if h.Major != cbor.Array {
		r.Pos = start
		return nil, ErrSyntax
	}
	limit := r.check.codec.maxRecords()
	room := room{typical: 12, limit: limit}
	if !h.Indefinite() && h.Arg < uint64(limit) {
		room.limit = int(h.Arg) // at most that many, perhaps fewer
	}
	for n := uint64(0); r.More(h, n); n++ {
		r.record++
		if r.record == limit {
			return nil, ErrTooLarge
		}
		dst = room.next(dst, r.record, r.Pos, len(r.S))
		if err := r.readRecord(&dst[len(dst)-1]); err != nil {
			return nil, err
		}
	}
	if r.record < 0 && r.check.codec.Pack == Fetch && !r.check.codec.LwM2M {
		r.Pos = start
		return nil, ErrValue // RFC 8790, section 3.1: at least one record
	}
	r.record = -1
	if r.Pos < len(r.S) {
		return nil, ErrTrailing
	}
	return dst, r.check.checkNames(len(r.S))
}

func (r *cborReader) readRecord(rec *Record) error {
	start := r.Pos
	h, err := r.Head()
	if err != nil {
		return err
	}
	if h.Major != cbor.Map {
		r.Pos = start
		return ErrSyntax
	}
	var has labelSet
	for n := uint64(0); r.More(h, n); n++ {
		at := r.Pos
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
			r.Pos = at
			return ErrLabel
		}
		has |= 1 << l
		at = r.Pos
		if err := r.field(rec, l); err != nil {
			if err == cbor.ErrType || err == cbor.ErrRange || err == ErrType {
				r.Pos = at
			}
			return err
		}
	}
	if err := r.check.check(rec, has); err != nil {
		r.Pos = start
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
	if r.Pos < len(r.S) {
		if l := labelOfKey[r.S[r.Pos]]; l != unknownLabel {
			r.Pos++
			return l, "", nil
		}
	}
	start := r.Pos
	h, err := r.Head()
	if err != nil {
		return 0, "", err
	}
	switch h.Major {
	case cbor.Text:
		r.Pos = start
		name, err := r.Text()
		if err != nil {
			return 0, "", err
		}
		switch l := labelOf(name); {
		case l == labelLink && r.check.codec.LwM2M:
			return labelLink, "", nil
		case l == labelLink || l == unknownLabel:
			return unknownLabel, name, nil
		}
	case cbor.Uint, cbor.NegInt:
		if h.Arg < 24 && h.Info >= 24 { // a known key in a long form
			if l := labelOfKey[h.Major|byte(h.Arg)]; l != unknownLabel {
				return l, "", nil
			}
		}
	}
	r.Pos = start
	return 0, "", ErrLabel
}

// field reads the value of a known field.
func (r *cborReader) field(rec *Record, l label) (err error) {
	switch l {
	case labelName: // first, because nearly every record has it
		rec.Name, err = r.Text()
		return err
	case labelValue:
		if r.check.codec.Pack == Patch && r.Pos < len(r.S) && r.S[r.Pos] == cbor.Null {
			r.Pos++
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
		s, err = r.Bytes()
		rec.Value.kind, rec.Value.data = DataKind, []byte(s)
		return err
	case labelVersion:
		h, err := r.Head()
		if err != nil {
			return err
		}
		if h.Major != cbor.Uint {
			return ErrType
		}
		return rec.setVersion(Uint(h.Arg))
	}
	if dst := rec.number(l); dst != nil {
		*dst, err = r.number()
		return err
	}
	s, err := r.Text()
	if err != nil {
		return err
	}
	return rec.setText(l, s)
}

// unknown skips the value of an unknown field.
func (r *cborReader) unknown(name string, at int) error {
	if err := r.Skip(maxDepth); err != nil {
		return err
	}
	if strings.HasSuffix(name, "_") {
		r.Pos = at
		return ErrMustUnderstand
	}
	return nil
}

func (r *cborReader) bool() (bool, error) {
	if r.Pos < len(r.S) {
		switch r.S[r.Pos] {
		case cbor.False:
			r.Pos++
			return false, nil
		case cbor.True:
			r.Pos++
			return true, nil
		}
	}
	return false, r.Mistyped(cbor.Head{At: r.Pos})
}

// number reads an integer, a float, a decimal fraction, or for LwM2M a tagged time.
func (r *cborReader) number() (Number, error) {
	if r.Pos < len(r.S) && r.S[r.Pos] < 24 {
		r.Pos++
		return Int(int64(r.S[r.Pos-1])), nil
	}
	h, err := r.Head()
	if err != nil {
		return Number{}, err
	}
	switch h.Major {
	case cbor.Uint:
		return Uint(h.Arg), nil
	case cbor.NegInt:
		return negative(h.Arg), nil
	case cbor.Simple:
		if f, ok := h.Float(); ok {
			if f-f != 0 { // not finite
				return Number{}, cbor.ErrRange
			}
			return Float(f), nil
		}
	case cbor.Tag:
		switch {
		case h.Arg == cbor.TagDecimal:
			return r.decimal()
		case h.Arg <= cbor.TagEpoch && r.check.codec.LwM2M:
			return r.time(h)
		}
	}
	return Number{}, r.Mistyped(h)
}

// negative returns -1-arg.
func negative(arg uint64) Number {
	switch {
	case arg <= math.MaxInt64:
		return Int(-1 - int64(arg))
	case arg == math.MaxUint64:
		return Float(-0x1p64)
	}
	return Float(-float64(arg + 1)) // rounded once
}

// decimal reads the content of a decimal fraction.
func (r *cborReader) decimal() (Number, error) {
	exp, mantissa, err := r.Decimal()
	if err != nil {
		return Number{}, err
	}
	n := Decimal(mantissa, int(max(-1<<20, min(exp, 1<<20))))
	if !n.isFinite() {
		return Number{}, cbor.ErrRange
	}
	return n, nil
}

// time reads the content of a tagged time: whole seconds of Unix time; of a date it drops the
// fraction. RFC 8428 has no tagged times; Leshan puts them around values in the other CBOR formats
// of LwM2M.
func (r *cborReader) time(tag cbor.Head) (Number, error) {
	if tag.Arg == cbor.TagDateTime {
		t, err := r.DateTime()
		return Int(t.Unix()), err
	}
	if r.Pos < len(r.S) && r.S[r.Pos]&0xe0 == cbor.Tag {
		return Number{}, r.Mistyped(tag) // times do not nest
	}
	n, err := r.number()
	if err != nil {
		return Number{}, err
	}
	if _, ok := n.Int64(); !ok {
		return Number{}, cbor.ErrRange
	}
	return n, nil
}
