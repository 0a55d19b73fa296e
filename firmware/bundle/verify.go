package bundle

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// A Policy says which bundles are welcome. The zero Policy takes every bundle with a good signature.
type Policy struct {
	// Running is the version that runs now. A bundle must have a higher one, and its minimum version must not be higher
	// than this. "" lets every version pass.
	Running string
	// Name, if not "", is what the bundle must be called: two products that share a key take only their own.
	Name string
	// MaxSize is the most bytes that the image may have; 0 means no limit but the type's.
	MaxSize int64
}

// ErrTooBig refuses an image above [Policy.MaxSize]. It is no category of its own kind of bundle: there is no room for it.
var ErrTooBig = errors.New("bundle: image is too big")

// Check says whether a bundle with manifest m is welcome.
func (p Policy) Check(m Manifest) error {
	if p.Name != "" && m.Name != p.Name {
		return fmt.Errorf("%w: it is for %q, this is %q", ErrVersion, m.Name, p.Name)
	}
	if p.MaxSize > 0 && m.Size > p.MaxSize {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooBig, m.Size, p.MaxSize)
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

// A Verifier takes a bundle piece by piece. It passes the image on to its writer, but not one byte of it before the
// signature over the manifest is proved and the policy has agreed; whether the image is the one that was signed is known
// only at the end: see [Verifier.Close]. It holds at most [MaxEnvelope] bytes.
type Verifier struct {
	image    io.Writer
	trust    ed25519.PublicKey
	policy   Policy
	header   []byte
	need     int // length of the header, 0 while unknown
	manifest *Manifest
	digest   hash.Hash
	taken    int64 // bytes of the image
	err      error // the first failure: it stays
}

// NewVerifier returns a Verifier that passes the image of a bundle signed with the key that belongs to trust on to image,
// which may be nil.
func NewVerifier(image io.Writer, trust ed25519.PublicKey, policy Policy) *Verifier {
	if image == nil {
		image = io.Discard
	}
	return &Verifier{image: image, trust: trust, policy: policy, digest: sha256.New()}
}

// Manifest returns the manifest once its signature is proved and the policy has agreed.
func (v *Verifier) Manifest() (Manifest, bool) {
	if v.manifest == nil {
		return Manifest{}, false
	}
	return *v.manifest, true
}

// Header returns the bytes before the image, as soon as [Verifier.Manifest] returns something. The slice is the caller's.
func (v *Verifier) Header() []byte {
	if v.manifest == nil {
		return nil
	}
	return append([]byte(nil), v.header...)
}

// Write takes the next bytes of the bundle. After it has failed it fails always with the same error.
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

// takeHeader takes from p what belongs to the header.
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
		err = v.policy.Check(m)
	}
	if err != nil {
		return n, err
	}
	v.manifest = &m
	return n, nil
}

// Close ends the bundle. Only if it returns nil is the image the one that was signed.
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

// A Reader reads the image of a bundle. Its Read returns [io.EOF] only if the image is the one that was signed.
type Reader struct {
	in       io.Reader
	verifier *Verifier
	scratch  []byte
	buffered []byte // image bytes not yet returned
	err      error
}

// NewReader reads the header of a bundle from r and checks it. It may read on into the image.
func NewReader(r io.Reader, trust ed25519.PublicKey, policy Policy) (*Reader, error) {
	b := &Reader{in: r, scratch: make([]byte, 32<<10)}
	b.verifier = NewVerifier((*readerSink)(b), trust, policy)
	for b.verifier.manifest == nil {
		if b.fill(); b.err != nil {
			if b.err == io.EOF {
				return nil, fmt.Errorf("%w: it ends in its header", ErrFormat)
			}
			return nil, b.err
		}
	}
	return b, nil
}

// Manifest returns the manifest, whose signature is proved.
func (b *Reader) Manifest() Manifest { return *b.verifier.manifest }

// Read implements [io.Reader] over the image.
func (b *Reader) Read(p []byte) (int, error) {
	for len(b.buffered) == 0 && len(p) > 0 {
		if b.err != nil {
			return 0, b.err
		}
		b.fill()
	}
	n := copy(p, b.buffered)
	b.buffered = b.buffered[n:]
	return n, nil
}

// fill reads once. It is called only when all that was buffered has been returned.
func (b *Reader) fill() {
	b.buffered = b.buffered[:0]
	n, err := b.in.Read(b.scratch)
	if _, failed := b.verifier.Write(b.scratch[:n]); failed != nil {
		b.err = failed
		return
	}
	if err == io.EOF {
		if failed := b.verifier.Close(); failed != nil && b.verifier.manifest != nil {
			err = failed
		}
	}
	b.err = err
}

// readerSink receives the image from the verifier: slices of scratch, which live until the next fill.
type readerSink Reader

func (s *readerSink) Write(p []byte) (int, error) {
	s.buffered = p
	return len(p), nil
}
