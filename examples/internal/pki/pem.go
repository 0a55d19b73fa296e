package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/otago-iot/otago/internal/disk"
)

// readPair returns fs.ErrNotExist only if both files are missing.
func readPair(certFile, keyFile string) (*x509.Certificate, crypto.Signer, error) {
	certPEM, certErr := os.ReadFile(certFile)
	keyPEM, keyErr := os.ReadFile(keyFile)
	switch {
	case certErr != nil && errors.Is(keyErr, os.ErrNotExist):
		return nil, nil, certErr
	case certErr != nil:
		return nil, nil, fmt.Errorf("%s exists, but its certificate does not read: %v", keyFile, certErr)
	case keyErr != nil:
		return nil, nil, fmt.Errorf("%s exists, but its key does not read: %v", certFile, keyErr)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("%s, %s: %w", certFile, keyFile, err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("%s: a key that cannot sign", keyFile)
	}
	return pair.Leaf, signer, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "PRIVATE KEY", der, 0o600)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return disk.Create(path, mode, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
