package coap

import "sync"

// group classes a peer by how hard it is to become one. What all peers share is divided among the
// groups, so that peers of one group, above all those whose address may be forged, cannot keep out
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

// shares counts what the peers hold of something of which there is a limited amount. Half of it is
// kept for the groups, the same for each; the rest goes to whichever comes first.
type shares struct {
	reserve, common int64

	mu       sync.Mutex
	used     [groups]int64
	borrowed int64 // from what is common
}

// newShares divides limit among n groups.
func newShares(limit int64, n int) *shares {
	reserve := limit / int64(2*n)
	return &shares{reserve: reserve, common: limit - int64(n)*reserve}
}

// take takes n for a peer of a group, or returns false when there is not enough.
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

// give takes n back.
func (s *shares) give(c group, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.borrowed -= max(s.used[c]-s.reserve, 0) - max(s.used[c]-n-s.reserve, 0)
	s.used[c] -= n
}

// borrows reports whether a group has more than is kept for it.
func (s *shares) borrows(c group) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used[c] > s.reserve
}

// total is what all have.
func (s *shares) total() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, used := range s.used {
		n += used
	}
	return n
}
