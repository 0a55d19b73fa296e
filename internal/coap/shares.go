package coap

import "sync"

// group classes peers by how hard it is to become one. Shared resources are divided among the
// groups, so that peers of one group, above all those whose address may be forged, cannot lock out
// peers of another.
type group uint8

const (
	unverifiedUDP group = iota // UDP, at an address that may be forged
	verifiedUDP                // UDP, at an address that has answered us, or was dialled
	overDTLS
	overTCP
	overTLS
	groups
)

func (a *association) group() group {
	switch a.peer.Transport {
	case DTLS:
		return overDTLS
	case TCP:
		return overTCP
	case TLS:
		return overTLS
	}
	if a.verified.Load() {
		return verifiedUDP
	}
	return unverifiedUDP
}

// shares counts how much of a limited resource the groups hold. Half of it is reserved, in equal
// parts, for the groups; the rest is first come, first served.
type shares struct {
	reserve, common int64

	mu       sync.Mutex
	used     [groups]int64
	borrowed int64 // from common
}

// newShares divides limit among n groups.
func newShares(limit int64, n int) *shares {
	reserve := limit / int64(2*n)
	return &shares{reserve: reserve, common: limit - int64(n)*reserve}
}

// take takes n for a peer of a group, or returns false if there is not enough.
func (s *shares) take(c group, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := max(s.used[c]-s.reserve, 0)
	after := max(s.used[c]+n-s.reserve, 0)
	if s.borrowed+after-before > s.common {
		return false
	}
	s.borrowed += after - before
	s.used[c] += n
	return true
}

// give returns n.
func (s *shares) give(c group, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.borrowed -= max(s.used[c]-s.reserve, 0) - max(s.used[c]-n-s.reserve, 0)
	s.used[c] -= n
}

// borrows reports whether a group holds more than its reserve.
func (s *shares) borrows(c group) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used[c] > s.reserve
}

// total returns how much all groups hold.
func (s *shares) total() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, used := range s.used {
		n += used
	}
	return n
}
