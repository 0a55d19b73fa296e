package coap

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash/maphash"
)

// Identity is what a peer has proven about itself. The zero value is nothing.
// Identities of different kinds are never the same, whatever bytes they have.
type Identity struct {
	// PSKIdentity is the identity of the pre-shared key that was used. It is
	// never empty for a peer that used one.
	PSKIdentity []byte
	// Certificates is the verified chain in DER, leaf first.
	Certificates [][]byte

	keySum [16]byte // of the pre-shared key; zero for what was not proven in a handshake here
}

// ProvenBy reports whether key is the pre-shared key that the peer has shown to have, as far as that is known.
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

// Kind returns the kind of credentials; of nil it is NoIdentity.
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

// IsZero reports whether nothing was proven; nil is nothing.
func (i *Identity) IsZero() bool { return i.Kind() == NoIdentity }

// name is what tells identities of one kind apart.
func (i *Identity) name() []byte {
	if i.Kind() == CertificateIdentity {
		return i.Certificates[0]
	}
	return i.PSKIdentity
}

// owner names the peer in the keys of its uploads: by what it has proven, so
// that one goes on over another association, else by the association.
func (a *association) owner() uint64 {
	if a.proven.IsZero() {
		return a.serial
	}
	var h maphash.Hash
	h.SetSeed(a.e.seed)
	h.WriteByte(byte(a.proven.Kind()))
	h.Write(a.proven.name())
	return h.Sum64() | 1<<63
}

var errIdentityEnded = errors.New("coap: the identity is no longer accepted")

// EndIdentities ends each association, of DTLS and TLS, whose peer has proven an
// identity that is gone, and the DTLS handshakes in which a peer is about to prove
// one. The peers are told by a closure alert. What waits for them fails with
// [ErrPeerGone]. It is for keys
// that are removed or replaced: let [DTLSConfig.PSK] know of that first. gone is
// called without a lock, once for each association. The result is the number of
// associations.
func (e *Endpoint) EndIdentities(gone func(*Identity) bool) int {
	for _, s := range e.dtlsSockets() {
		s.dropIdentities(gone)
	}
	n := 0
	for _, a := range e.table.all(func(a *association) bool { return !a.proven.IsZero() }) {
		if gone(a.proven) {
			a.link.hangup(a)
			e.end(a)
			n++
		}
	}
	return n
}

func (e *Endpoint) dtlsSockets() []*dtlsSocket {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []*dtlsSocket
	for _, server := range e.servers {
		if s, ok := server.(*dtlsSocket); ok && !s.only.IsValid() {
			found = append(found, s)
		}
	}
	return found
}

// dropIdentities ends the handshakes of clients that have named an identity that is
// gone: they may have looked up the key when it was there.
func (s *dtlsSocket) dropIdentities(gone func(*Identity) bool) {
	var going []*dtlsHandshake
	s.mu.Lock()
	for _, at := range s.places {
		if at.handshake != nil {
			going = append(going, at.handshake)
		}
	}
	s.mu.Unlock()
	for _, h := range going {
		if named := h.named(); !named.IsZero() && gone(named) {
			s.mu.Lock()
			s.drop(h, errIdentityEnded)
			s.mu.Unlock()
		}
	}
}

// named returns what the peer claims to be.
func (h *dtlsHandshake) named() *Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &Identity{PSKIdentity: bytes.Clone(h.identity), Certificates: h.chain}
}
