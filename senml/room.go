package senml

import "slices"

// room is the place for decoded records: the end of the caller's slice. When it is full, room grows
// it by as many records as should follow if they are like those before, and does not trust a count
// that the pack claims.
type room struct {
	typical int  // bytes of a record, as a first guess
	limit   int  // records that the pack can have at most
	zeroed  bool // the memory beyond the records was allocated here, so it is zero
	n, pos  int  // records and bytes when room last grew
}

// next appends an empty record to dst, of which n records and pos bytes of size were read before.
func (m *room) next(dst []Record, n, pos, size int) []Record {
	if len(dst) == cap(dst) {
		const first = 32
		more := min(size/m.typical+1, first)
		if n > 0 {
			more = int(int64(size-pos)*int64(n-m.n)/int64(pos-m.pos)) + n/16 + 1
			more += more / 8 // if this is too little, all must be copied again
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
