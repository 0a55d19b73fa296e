package bundle

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Magic begins every bundle. Its first byte is not ASCII, and its line end changes when a file is
// copied as text, so that neither text nor such a copy passes for a bundle.
const Magic = "\x89OTAGO\r\n"

// MaxEnvelope is the largest size of the signed manifest of a bundle, in bytes.
const MaxEnvelope = 4096

const (
	prefixLen      = len(Magic) + 4
	algorithmEdDSA = -8
	envelopeType   = "application/vnd.otago.bundle"
	tagSign1       = 18
)

// protectedHeader holds labels 1 (alg) and 16 (typ).
type protectedHeader struct {
	Algorithm int    `cbor:"1,keyasint"`
	Type      string `cbor:"16,keyasint"`
}

// sign1 is a COSE_Sign1 without its tag.
type sign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected map[int]cbor.RawMessage
	Payload     []byte
	Signature   []byte
}

// toBeSigned is the Sig_structure of RFC 9052, section 4.4.
type toBeSigned struct {
	_         struct{} `cbor:",toarray"`
	Context   string
	Protected []byte
	External  []byte
	Payload   []byte
}

// protected is the only protected header.
var protected = must(encoder.Marshal(protectedHeader{Algorithm: algorithmEdDSA, Type: envelopeType}))

func signatureInput(payload []byte) ([]byte, error) {
	return encoder.Marshal(toBeSigned{Context: "Signature1", Protected: protected, External: []byte{}, Payload: payload})
}

// appendHeader appends what precedes the image: magic, length and signed manifest.
func appendHeader(dst []byte, key ed25519.PrivateKey, m Manifest) ([]byte, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("bundle: not an Ed25519 private key")
	}
	payload, err := m.encode()
	if err != nil {
		return nil, err
	}
	input, err := signatureInput(payload)
	if err != nil {
		return nil, err
	}
	envelope, err := encoder.Marshal(cbor.Tag{Number: tagSign1, Content: sign1{
		Protected: protected, Unprotected: map[int]cbor.RawMessage{},
		Payload: payload, Signature: ed25519.Sign(key, input),
	}})
	if err != nil {
		return nil, err
	}
	dst = append(dst, Magic...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(envelope)))
	return append(dst, envelope...), nil
}

// headerLen returns the length of the whole header that begins with prefix, and 0 if prefix is too
// short to tell. It fails as soon as no bundle can begin so.
func headerLen(prefix []byte) (int, error) {
	n := min(len(prefix), len(Magic))
	if string(prefix[:n]) != Magic[:n] {
		return 0, fmt.Errorf("%w: it does not begin as one", ErrFormat)
	}
	if len(prefix) < prefixLen {
		return 0, nil
	}
	length := binary.BigEndian.Uint32(prefix[len(Magic):])
	if length == 0 || length > MaxEnvelope {
		return 0, fmt.Errorf("%w: envelope of %d bytes", ErrFormat, length)
	}
	return prefixLen + int(length), nil
}

// openEnvelope verifies the signature of an envelope before it decodes the manifest.
func openEnvelope(envelope []byte, trust ed25519.PublicKey) (Manifest, error) {
	if len(trust) != ed25519.PublicKeySize {
		return Manifest{}, errors.New("bundle: the trusted key is no Ed25519 public key")
	}
	var tag cbor.RawTag
	if err := strict.Unmarshal(envelope, &tag); err != nil {
		return Manifest{}, fmt.Errorf("%w: envelope: %v", ErrFormat, err)
	}
	if tag.Number != tagSign1 {
		return Manifest{}, fmt.Errorf("%w: envelope with CBOR tag %d, want %d", ErrFormat, tag.Number, tagSign1)
	}
	var s sign1
	if err := strict.Unmarshal(tag.Content, &s); err != nil {
		return Manifest{}, fmt.Errorf("%w: envelope: %v", ErrFormat, err)
	}
	if !bytes.Equal(s.Protected, protected) {
		return Manifest{}, fmt.Errorf("%w: signed by another algorithm or for another purpose", ErrFormat)
	}
	input, err := signatureInput(s.Payload)
	if err != nil {
		return Manifest{}, err
	}
	if !ed25519.Verify(trust, input, s.Signature) {
		return Manifest{}, fmt.Errorf("%w: signature is not by the trusted key", ErrIntegrity)
	}
	return decodeManifest(s.Payload)
}
