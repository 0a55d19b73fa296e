package bundle

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/otago-iot/otago/internal/disk"
)

const (
	pemPrivate = "PRIVATE KEY"
	pemPublic  = "PUBLIC KEY"
	maxKeyFile = 64 << 10
)

// CreateKeyFiles makes a key pair and writes it to two new PEM files: the private key, which signs
// bundles, to private (PKCS #8, readable by its owner only), the public key, which goes into
// devices, to public (SubjectPublicKeyInfo). It fails with [fs.ErrExist], and changes nothing, if
// one of the files exists.
func CreateKeyFiles(private, public string) error {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	privDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return err
	}
	pubDER, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return err
	}
	if err := disk.Create(private, 0o600, pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: privDER})); err != nil {
		return fmt.Errorf("bundle: create key file: %w", err)
	}
	if err := disk.Create(public, 0o644, pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: pubDER})); err != nil {
		return errors.Join(fmt.Errorf("bundle: create key file: %w", err), os.Remove(private)) // it is useless alone
	}
	return nil
}

// ReadPrivateKey reads an Ed25519 private key from a PEM file (PKCS #8), such as openssl genpkey
// -algorithm ed25519 makes.
func ReadPrivateKey(path string) (ed25519.PrivateKey, error) {
	der, err := readPEM(path, pemPrivate)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("bundle: %s: %w", path, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("bundle: %s: not an Ed25519 key", path)
	}
	return private, nil
}

// ReadPublicKey reads an Ed25519 public key from a PEM file (SubjectPublicKeyInfo).
func ReadPublicKey(path string) (ed25519.PublicKey, error) {
	der, err := readPEM(path, pemPublic)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("bundle: %s: %w", path, err)
	}
	public, ok := key.(crypto.PublicKey).(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("bundle: %s: not an Ed25519 key", path)
	}
	return public, nil
}

func readPEM(path, kind string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("bundle: key file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("bundle: key file: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("bundle: %s: no PEM block %q", path, kind) // the error must not show the content of the file
	}
	return block.Bytes, nil
}

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
