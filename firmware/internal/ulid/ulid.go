// Package ulid makes ids that sort by creation time.
package ulid

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"
)

// crockford is the alphabet of ULIDs: digits sort before letters, and no two look alike.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// New returns a ULID: 48 bits of milliseconds and 80 random bits in 26 characters. Ids of one
// process sort in the order in which they were made, also within a millisecond, so that a page of a
// list sorted by id does not change while updates are created.
func New(now time.Time) string { return ids.next(now) }

var ids source

// An source makes rising ULIDs.
type source struct {
	mu     sync.Mutex
	hi, lo uint64 // the last one: milliseconds and 16 bits, 64 bits
}

func (s *source) next(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ms := uint64(now.UnixMilli()); ms > s.hi>>16 {
		var b [10]byte
		rand.Read(b[:])
		// The highest random bit stays clear, so that there is always a next id.
		s.hi, s.lo = ms<<16|uint64(binary.BigEndian.Uint16(b[:])&0x7fff), binary.BigEndian.Uint64(b[2:])
	} else if s.lo++; s.lo == 0 {
		s.hi++
	}
	return encode(s.hi, s.lo)
}

func encode(hi, lo uint64) string {
	var id [26]byte
	for i := len(id) - 1; i >= 0; i-- {
		id[i] = crockford[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(id[:])
}
