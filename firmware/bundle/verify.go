package bundle

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
)

// A Policy says which bundles a device accepts. The zero Policy accepts every bundle with a good
// signature.
type Policy struct {
	// Running is the version that runs now. A bundle must have a higher one, and its minimum
	// version must not be higher than this. Default: every version is accepted.
	Running string
	// Name is the name that a bundle must have, so that of two products that share a key each
	// accepts only its own bundles. Default: any name is accepted.
	Name string
	// MaxSize is the largest size of an image, in bytes. Default: no limit.
	MaxSize int64
}

// check returns nil if the policy accepts a bundle with manifest m.
func (p Policy) check(m Manifest) error {
	if p.Name != "" && m.Name != p.Name {
		return fmt.Errorf("%w: it is for %q, this is %q", ErrVersion, m.Name, p.Name)
	}
	if p.MaxSize > 0 && m.Size > p.MaxSize {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, m.Size, p.MaxSize)
	}
	if p.Running == "" {
		return nil
	}
	if CompareVersions(m.Version, p.Running) <= 0 {
		return fmt.Errorf("%w: version %s is not higher than %s", ErrVersion, m.Version, p.Running)
	}
	if m.MinVersion != "" && CompareVersions(p.Running, m.MinVersion) < 0 {
		return fmt.Errorf("%w: it needs %s or higher, %s runs", ErrVersion, m.MinVersion, p.Running)
	}
	return nil
}

// A Verifier takes a bundle piece by piece, and passes its image on to a writer. It writes the
// first byte only after it has verified the signature over the manifest and the policy has accepted
// it. Only [Verifier.Close] reports whether the image is the one that was signed. A Verifier holds
// at most [MaxEnvelope] bytes. It is not safe for concurrent use.
type Verifier struct {
	image    io.Writer
	trust    ed25519.PublicKey
	policy   Policy
	header   []byte
	need     int // length of the header, 0 while unknown
	manifest *Manifest
	digest   hash.Hash
	taken    int64 // bytes of the image
	err      error // the first failure
}

// NewVerifier returns a Verifier for a bundle that must be signed with the private key of trust. It
// writes the image to image; nil discards it.
func NewVerifier(image io.Writer, trust ed25519.PublicKey, policy Policy) *Verifier {
	if image == nil {
		image = io.Discard
	}
	return &Verifier{image: image, trust: trust, policy: policy, digest: sha256.New()}
}

// Manifest returns the manifest, and false before the signature is verified and the policy has
// accepted it.
func (v *Verifier) Manifest() (Manifest, bool) {
	if v.manifest == nil {
		return Manifest{}, false
	}
	return *v.manifest, true
}

// Header returns a copy of the bytes before the image, and nil before there is a Manifest.
func (v *Verifier) Header() []byte {
	if v.manifest == nil {
		return nil
	}
	return append([]byte(nil), v.header...)
}

// Write takes the next bytes of the bundle. Its errors are [ErrFormat], [ErrIntegrity],
// [ErrVersion], [ErrTooLarge], and those of the image's writer. After an error every call returns
// that error.
func (v *Verifier) Write(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n := 0
	for v.manifest == nil && n < len(p) {
		var took int
		took, v.err = v.takeHeader(p[n:])
		n += took
		if v.err != nil {
			return n, v.err
		}
	}
	if n == len(p) {
		return n, nil
	}
	rest := p[n:]
	if int64(len(rest)) > v.manifest.Size-v.taken {
		v.err = fmt.Errorf("%w: more than the %d bytes of the manifest", ErrIntegrity, v.manifest.Size)
		return n, v.err
	}
	took, err := v.image.Write(rest)
	v.digest.Write(rest[:took])
	v.taken += int64(took)
	if v.err = err; v.err == nil && took < len(rest) {
		v.err = io.ErrShortWrite
	}
	return n + took, v.err
}

// takeHeader takes from p the bytes that belong to the header.
func (v *Verifier) takeHeader(p []byte) (int, error) {
	want := prefixLen
	if v.need > 0 {
		want = v.need
	}
	n := min(len(p), want-len(v.header))
	v.header = append(v.header, p[:n]...)
	if v.need == 0 {
		var err error
		v.need, err = headerLen(v.header)
		return n, err
	}
	if len(v.header) < v.need {
		return n, nil
	}
	m, err := openEnvelope(v.header[prefixLen:], v.trust)
	if err == nil {
		err = v.policy.check(m)
	}
	if err != nil {
		return n, err
	}
	v.manifest = &m
	return n, nil
}

// Close ends the bundle. It returns nil only if the image is the one that was signed.
func (v *Verifier) Close() error {
	switch {
	case v.err != nil:
	case v.manifest == nil:
		v.err = fmt.Errorf("%w: it ends in its header", ErrFormat)
	case v.taken < v.manifest.Size:
		v.err = fmt.Errorf("%w: %d of %d bytes", ErrIntegrity, v.taken, v.manifest.Size)
	case [sha256.Size]byte(v.digest.Sum(nil)) != v.manifest.SHA256:
		v.err = fmt.Errorf("%w: digest differs", ErrIntegrity)
	}
	return v.err
}
