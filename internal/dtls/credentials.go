package dtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"

	pion "github.com/pion/dtls/v3"
)

// Credentials are the credentials of one side of DTLS 1.2: a pre-shared key, a certificate, or
// both. If a server has both, the client chooses.
//
// The cipher suites are PSK with AES_128_CCM_8, AES_128_GCM_SHA256 or AES_128_CBC_SHA256;
// ECDHE_ECDSA with AES_128_CCM_8 or AES_128_GCM_SHA256; and ECDHE_RSA with AES_128_GCM_SHA256.
type Credentials struct {
	// PSK returns the key of an identity. A server calls it, from several goroutines; it must not
	// panic. If the error matches ErrUnknownIdentity, or the key is empty, the server refuses the
	// client with the alert unknown_psk_identity. After any other error, which means that the key
	// is not known now, the server drops the handshake without an answer, and the client tries
	// again after its own time-out. Nil: the server accepts no pre-shared keys.
	PSK func(identity []byte) (key []byte, err error)
	// Identity and Key are those of a client. A client without a Key uses certificates.
	Identity, Key []byte
	// Certificate is sent to the peer. A server without one accepts only pre-shared keys.
	Certificate *tls.Certificate
	// ClientCAs are the roots for the certificates of clients. A server without them accepts only
	// pre-shared keys.
	ClientCAs *x509.CertPool
	// RootCAs are the roots for the server's certificate, which must be valid for ServerName. Nil
	// means the roots of the system.
	RootCAs    *x509.CertPool
	ServerName string
	// NoConnectionID turns Connection IDs (RFC 9146) off: a server issues none, a client accepts
	// none. With one, the server recognizes a client that comes from another address.
	NoConnectionID bool
}

var (
	// ErrHandshake matches every failure of a handshake that a client began.
	ErrHandshake = errors.New("dtls: handshake failed")
	// ErrWrongKey: the peer has another key for the identity.
	ErrWrongKey = errors.New("keys differ")
	// ErrUnknownIdentity: the server has no key for the identity. Some clients never try again.
	ErrUnknownIdentity = errors.New("unknown PSK identity")
	// ErrNoCredentials: a server's Credentials allow no client to prove an identity.
	ErrNoCredentials = errors.New("dtls: a server needs pre-shared keys, or a certificate and the roots of its clients' certificates")
)

// The cipher suites, in order of preference.
var (
	certificateSuites = []pion.CipherSuiteID{
		pion.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		pion.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8,
		pion.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	}
	pskSuites = []pion.CipherSuiteID{
		pion.TLS_PSK_WITH_AES_128_CCM_8,
		pion.TLS_PSK_WITH_AES_128_GCM_SHA256,
	}
	// cbcSuites are for clients that offer no other. They do not use a Connection ID, because with
	// one pion computes another MAC than RFC 9146 specifies.
	cbcSuites = []pion.CipherSuiteID{pion.TLS_PSK_WITH_AES_128_CBC_SHA256}
)

func isCertificateSuite(id uint16) bool {
	return slices.Contains(certificateSuites, pion.CipherSuiteID(id))
}
