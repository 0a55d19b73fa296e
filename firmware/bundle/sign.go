package bundle

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// Sign writes the bundle of m and the image to w, signed by key. It reads the image twice, from its
// current offset to its end: once for the size and digest, which it sets in the manifest, once to
// copy it. If the image changes in between, Sign fails, and what it has written is no valid bundle.
func Sign(w io.Writer, key ed25519.PrivateKey, m Manifest, image io.ReadSeeker) error {
	start, err := image.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("bundle: seek in image: %w", err)
	}
	digest := sha256.New()
	if m.Size, err = io.Copy(digest, image); err != nil {
		return fmt.Errorf("bundle: read image: %w", err)
	}
	digest.Sum(m.SHA256[:0])
	header, err := appendHeader(nil, key, m)
	if err != nil {
		return err
	}
	if _, err = image.Seek(start, io.SeekStart); err != nil {
		return fmt.Errorf("bundle: seek in image: %w", err)
	}
	if _, err = w.Write(header); err != nil {
		return fmt.Errorf("bundle: write: %w", err)
	}
	digest.Reset()
	n, err := io.Copy(io.MultiWriter(w, digest), image)
	if err != nil {
		return fmt.Errorf("bundle: copy image: %w", err)
	}
	if n != m.Size || [sha256.Size]byte(digest.Sum(nil)) != m.SHA256 {
		return errors.New("bundle: image changed while it was signed")
	}
	return nil
}
