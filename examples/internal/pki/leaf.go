package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/otago-iot/otago/internal/disk"
	"github.com/otago-iot/otago/internal/names"
)

// maxCommonName is the maximum length of a common name in RFC 5280, in characters.
const maxCommonName = 64

// IssueServer writes name.crt and name.key for a server with the given host names and IP addresses.
func (ca *CA) IssueServer(name string, hosts []string) error {
	if len(hosts) == 0 {
		return errors.New("a server certificate needs a host name or an IP address")
	}
	template, err := newTemplate(hosts[0], leafYears)
	if err != nil {
		return err
	}
	for _, host := range hosts {
		switch ip := net.ParseIP(host); {
		case ip != nil:
			template.IPAddresses = append(template.IPAddresses, ip)
		case host == "" || strings.ContainsAny(host, ":/ "):
			return fmt.Errorf("%q is neither a host name nor an IP address", host)
		default:
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if utf8.RuneCountInString(hosts[0]) > maxCommonName {
		template.Subject.CommonName = name
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	_, _, err = ca.issue(template, name)
	return err
}

// IssueDevice writes a certificate and a key for a device. The common name is the endpoint; so is a
// URI name if the endpoint is a URN. [FileName] names the files.
func (ca *CA) IssueDevice(endpoint string) error {
	if endpoint == "" || utf8.RuneCountInString(endpoint) > maxCommonName {
		return fmt.Errorf("endpoint %q: a certificate's common name has 1 to %d characters", endpoint, maxCommonName)
	}
	if wrong := names.Check(endpoint, 1, 4*maxCommonName); wrong != "" {
		return fmt.Errorf("endpoint %q %s", endpoint, wrong)
	}
	template, err := newTemplate(endpoint, leafYears)
	if err != nil {
		return err
	}
	if u, err := url.Parse(endpoint); err == nil && u.Scheme == "urn" && isASCII(endpoint) {
		template.URIs = []*url.URL{u}
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	_, _, err = ca.issue(template, FileName(endpoint))
	return err
}

// FileName returns the name, without extension, of an endpoint's files: the endpoint with
// percent-encoding for characters that do not belong in a file name.
func FileName(endpoint string) string {
	var b strings.Builder
	b.WriteString("device-")
	for _, c := range []byte(endpoint) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
			b.WriteByte(c)
		case c == ':':
			b.WriteByte('_')
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

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
