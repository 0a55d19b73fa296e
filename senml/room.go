package senml

import "slices"

// room is where a decoder puts the records it reads: at the end of the caller's slice. It makes
// room for as many as there will be if those to come are like those that filled the room before,
// and trusts no count that the pack claims.
type room struct {
	typical int  // bytes of a record, as a first guess
	limit   int  // records that the pack can have at most
	zeroed  bool // what is beyond the records has been allocated here, hence is zero
	n, pos  int  // records and bytes when room was made last
}

// next appends an empty record to dst, of which n records and pos bytes of size were read before.
func (m *room) next(dst []Record, n, pos, size int) []Record {
	if len(dst) == cap(dst) {
		const first = 32
		more := min(size/m.typical+1, first)
		if n > 0 {
			more = int(int64(size-pos)*int64(n-m.n)/int64(pos-m.pos)) + n/16 + 1
			more += more / 8 // or, if that is too few, all has to be copied again
		}
		dst = slices.Grow(dst, max(1, min(more, m.limit-n)))
		m.zeroed = true
		m.n, m.pos = n, pos
	}
	dst = dst[:len(dst)+1]
	if !m.zeroed {
		dst[len(dst)-1] = Record{}
	}
	return dst
}
