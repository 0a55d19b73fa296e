package dtls

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	pion "github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/ciphersuite"
	"github.com/pion/dtls/v3/pkg/crypto/prf"
	"github.com/pion/dtls/v3/pkg/protocol"
	"github.com/pion/dtls/v3/pkg/protocol/recordlayer"
)

// protection protects the records of one session. One goroutine may seal while another one opens.
type protection interface {
	// seal appends the record: header, into whose last two bytes it writes the length, and the
	// protected content.
	seal(dst, header, content []byte) ([]byte, error)
	// open decrypts a record in place, and returns its content. An error destroys the record, too.
	open(r record) ([]byte, error)
}

var errDecrypt = errors.New("dtls: record is not authentic")

// protection derives the keys of the session (RFC 5246, section 6.3).
func (r *result) protection() (protection, error) {
	client, server := r.RemoteRandom[:], r.LocalRandom[:]
	if r.IsClient {
		client, server = server, client
	}
	mac, iv := 0, 4
	suite := pion.CipherSuiteID(r.CipherSuiteID)
	if suite == pion.TLS_PSK_WITH_AES_128_CBC_SHA256 {
		mac, iv = sha256.Size, aes.BlockSize
	}
	k, err := prf.GenerateEncryptionKeys(r.MasterSecret, client, server, mac, 16, iv, sha256.New)
	if err != nil {
		return nil, err
	}
	if r.IsClient {
		k.ClientWriteKey, k.ServerWriteKey = k.ServerWriteKey, k.ClientWriteKey
		k.ClientWriteIV, k.ServerWriteIV = k.ServerWriteIV, k.ClientWriteIV
		k.ClientMACKey, k.ServerMACKey = k.ServerMACKey, k.ClientMACKey
	}
	// From here on "server" means our side.
	newAEAD := cipher.NewGCM
	switch suite {
	case pion.TLS_PSK_WITH_AES_128_CBC_SHA256:
		cbc, err := ciphersuite.NewCBC(k.ServerWriteKey, k.ServerWriteIV, k.ServerMACKey,
			k.ClientWriteKey, k.ClientWriteIV, k.ClientMACKey, sha256.New)
		return (*cbcProtection)(cbc), err
	case pion.TLS_PSK_WITH_AES_128_CCM_8, pion.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8:
		newAEAD = newCCM8
	case pion.TLS_PSK_WITH_AES_128_GCM_SHA256, pion.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		pion.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:
	default:
		return nil, fmt.Errorf("dtls: cipher suite %#x", r.CipherSuiteID)
	}
	p := new(aeadProtection)
	for _, side := range []struct {
		*aeadSide
		key, iv []byte
	}{{&p.ours, k.ServerWriteKey, k.ServerWriteIV}, {&p.theirs, k.ClientWriteKey, k.ClientWriteIV}} {
		b, err := aes.NewCipher(side.key)
		if err != nil {
			return nil, err
		}
		if side.aead, err = newAEAD(b); err != nil {
			return nil, err
		}
		copy(side.nonce[:4], side.iv)
	}
	return p, nil
}

// aeadProtection is GCM (RFC 5288) or CCM (RFC 6655). The explicit part of a nonce is the record
// number, which is never used twice.
type aeadProtection struct{ ours, theirs aeadSide }

type aeadSide struct {
	aead  cipher.AEAD
	nonce [12]byte
	data  []byte // buffer for the additional data
}

const explicitNonce = 8

func (p *aeadProtection) seal(dst, header, content []byte) ([]byte, error) {
	s := &p.ours
	at := len(dst)
	dst = append(dst, header...)
	binary.BigEndian.PutUint16(dst[len(dst)-2:], uint16(explicitNonce+len(content)+s.aead.Overhead()))
	copy(s.nonce[4:], header[3:11])
	dst = append(dst, header[3:11]...)
	data := s.additional(dst[at:at+len(header)], len(content))
	return s.aead.Seal(dst, s.nonce[:], content, data), nil
}

func (p *aeadProtection) open(r record) ([]byte, error) {
	s := &p.theirs
	body := r.body()
	n := len(body) - explicitNonce - s.aead.Overhead()
	if n < 0 {
		return nil, errDecrypt
	}
	copy(s.nonce[4:], body[:explicitNonce])
	sealed := body[explicitNonce:]
	out, err := s.aead.Open(sealed[:0], s.nonce[:], sealed, s.additional(r.raw[:r.header], n))
	if err != nil {
		return nil, errDecrypt
	}
	return out, nil
}

// additional returns the additional data of a record with n bytes of content (RFC 5246, section
// 6.2.3.3; RFC 9146, section 5.3).
func (s *aeadSide) additional(header []byte, n int) []byte {
	d := s.data[:0]
	if header[0] == recordWithCID {
		cid := header[11 : len(header)-2]
		d = append(d, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, recordWithCID, byte(len(cid)))
		d = append(d, header[:3]...)   // type, version
		d = append(d, header[3:11]...) // epoch, number
		d = append(d, cid...)
	} else {
		d = append(d, header[3:11]...)
		d = append(d, header[:3]...)
	}
	s.data = binary.BigEndian.AppendUint16(d, uint16(n))
	return s.data
}

// cbcProtection is CBC with HMAC. pion implements it, with defences against padding oracles.
type cbcProtection ciphersuite.CBC

func (p *cbcProtection) seal(dst, header, content []byte) ([]byte, error) {
	h := recordlayer.Header{
		ContentType: protocol.ContentType(header[0]), Version: protocol.Version1_2,
		Epoch: binary.BigEndian.Uint16(header[3:]), SequenceNumber: binary.BigEndian.Uint64(header[3:]) & maxSequence,
		ConnectionID: header[11 : len(header)-2], ContentLen: uint16(len(content)),
	}
	raw := append(append(make([]byte, 0, len(header)+len(content)), header...), content...)
	raw, err := (*ciphersuite.CBC)(p).Encrypt(&recordlayer.RecordLayer{Header: h}, raw)
	return append(dst, raw...), err
}

func (p *cbcProtection) open(r record) ([]byte, error) {
	h := recordlayer.Header{ConnectionID: r.raw[11 : r.header-2]}
	out, err := (*ciphersuite.CBC)(p).Decrypt(h, r.raw)
	if err != nil || len(out) < r.header {
		return nil, errDecrypt
	}
	return out[r.header:], nil
}
