package dtls

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash/maphash"
)

// Identity is what a peer has proven about itself. The zero value and nil mean nothing. Identities
// of different kinds are never equal, even with the same bytes.
type Identity struct {
	// PSKIdentity is the identity of the peer's pre-shared key. It is never empty for a peer with
	// such a key.
	PSKIdentity []byte
	// Certificates is the verified chain in DER, leaf first.
	Certificates [][]byte

	keySum [16]byte // of the pre-shared key; zero if no handshake here has proven it
}

// ProvenBy reports whether key is the pre-shared key that proved i. If the key is not known,
// because i was not made by a handshake here, it returns true.
func (i *Identity) ProvenBy(key []byte) bool {
	return len(key) > 0 && (i.keySum == [16]byte{} || i.keySum == sumOfKey(key))
}

func sumOfKey(key []byte) (sum [16]byte) {
	all := sha256.Sum256(key)
	copy(sum[:], all[:])
	return sum
}

// IdentityKind is the kind of credentials that prove an [Identity].
type IdentityKind uint8

// Kinds of identities.
const (
	NoIdentity IdentityKind = iota
	KeyIdentity
	CertificateIdentity
)

// Kind returns the kind of credentials; for nil it returns NoIdentity.
func (i *Identity) Kind() IdentityKind {
	switch {
	case i == nil:
		return NoIdentity
	case len(i.Certificates) > 0:
		return CertificateIdentity
	case len(i.PSKIdentity) > 0:
		return KeyIdentity
	}
	return NoIdentity
}

// IsZero reports whether the peer has proven nothing.
func (i *Identity) IsZero() bool { return i.Kind() == NoIdentity }

// Hash returns a number that depends only on the identity and the seed; without an identity it is
// 0.
func (i *Identity) Hash(seed maphash.Seed) uint64 {
	kind := i.Kind()
	if kind == NoIdentity {
		return 0
	}
	var h maphash.Hash
	h.SetSeed(seed)
	h.WriteByte(byte(kind))
	if kind == CertificateIdentity {
		h.Write(i.Certificates[0])
	} else {
		h.Write(i.PSKIdentity)
	}
	return h.Sum64() | 1<<63
}

var errIdentityEnded = errors.New("dtls: the identity is no longer accepted")

// EndHandshakes ends the handshakes of clients that claim an identity for which gone returns true:
// they may have used a key that was removed in the meantime. Sessions continue.
func (s *Socket) EndHandshakes(gone func(*Identity) bool) {
	if s.client() {
		return
	}
	var under []*handshake
	s.mu.Lock()
	for _, at := range s.places {
		if at.handshake != nil {
			under = append(under, at.handshake)
		}
	}
	s.mu.Unlock()
	for _, h := range under {
		if named := h.named(); !named.IsZero() && gone(named) {
			s.mu.Lock()
			s.drop(h, errIdentityEnded)
			s.mu.Unlock()
		}
	}
}

// named returns the identity that the peer claims.
func (h *handshake) named() *Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &Identity{PSKIdentity: bytes.Clone(h.identity), Certificates: h.chain}
}
