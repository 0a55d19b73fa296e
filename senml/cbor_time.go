package senml

import "time"

// The tags of times (RFC 8949, section 3.4.1 and 3.4.2), which RFC 8428 does not have. Leshan puts them around values in the
// other CBOR formats of LwM2M.
const (
	tagDateTime = 0
	tagEpoch    = 1
)

// time reads the content of a tagged time, whose item began at start: whole seconds of Unix time, of a date less the fraction.
func (r *cborReader) time(tag uint64, start int) (Number, error) {
	if tag == tagDateTime {
		s, err := r.text()
		if err != nil {
			return Number{}, err
		}
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			r.pos = start
			return Number{}, ErrNumber
		}
		return Int(t.Unix()), nil
	}
	if r.pos < len(r.s) && r.s[r.pos]&0xe0 == majorTag {
		r.pos = start
		return Number{}, r.mistyped() // not in one another, to any depth
	}
	n, err := r.number()
	if err != nil {
		return Number{}, err
	}
	if _, ok := n.Int64(); !ok {
		r.pos = start
		return Number{}, ErrNumber
	}
	return n, nil
}
