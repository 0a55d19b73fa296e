package senml

import "slices"

// room is where a decoder puts the records it reads: at the end of the caller's
// slice. It makes room for as many as there will be if those to come are like
// those before, and trusts no count that the pack claims.
type room struct {
	typical int  // bytes of a record, as a first guess
	limit   int  // records of a pack
	zeroed  bool // what is beyond the records has been allocated here, hence is zero
}

// next appends an empty record to dst, of which n records and pos bytes of size
// were read before.
func (m *room) next(dst []Record, n, pos, size int) []Record {
	if len(dst) == cap(dst) {
		const first = 32
		more := min(size/m.typical+1, first)
		if n > 0 {
			more = int(int64(size-pos)*int64(n)/int64(pos)) + n/16 + 1
		}
		dst = slices.Grow(dst, max(1, min(more, m.limit-n)))
		m.zeroed = true
	}
	dst = dst[:len(dst)+1]
	if !m.zeroed {
		dst[len(dst)-1] = Record{}
	}
	return dst
}
