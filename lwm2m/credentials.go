package lwm2m

import (
	"context"
	"errors"
)

// IdentityKind is the kind of credentials that prove an [Identity].
type IdentityKind uint8

// The kinds of identities.
const (
	// IdentityPSK: the identity of a pre-shared key.
	IdentityPSK IdentityKind = iota + 1
	// IdentityCertificate: a name in a certificate that was verified against
	// [ServerConfig.ClientCAs].
	IdentityCertificate
)

// String returns "psk" or "certificate", and "" for no kind.
func (k IdentityKind) String() string {
	switch k {
	case IdentityPSK:
		return "psk"
	case IdentityCertificate:
		return "certificate"
	default:
		return ""
	}
}

// Identity is the identity that a device has proven by its credentials. The zero value is no
// identity. Identities of different kinds are never equal, whatever their names.
type Identity struct {
	Kind IdentityKind
	// Name is the identity of the key, or the name in the certificate: up to 1024 bytes.
	Name string
}

// isZero reports whether nothing was proven.
func (i Identity) isZero() bool { return i == Identity{} }

// String returns kind and name, such as "psk:sensor-1".
func (i Identity) String() string {
	if i.isZero() {
		return ""
	}
	return i.Kind.String() + ":" + i.Name
}

// ErrUnknownIdentity is the error of [Credentials] for an identity that they do not know or no
// longer know.
var ErrUnknownIdentity = errors.New("lwm2m: unknown identity")

// Credentials knows the keys of devices and which endpoint each may register. The server asks it in
// each handshake, and again with each Register, Update, Send and De-register of a device that has
// proven an identity.
//
// An error that matches [ErrUnknownIdentity] refuses the identity: a handshake gets the alert
// unknown_psk_identity, and all associations of the identity end, and so do the requests to and
// from the device. A key other than that of the association counts as this error. Any other error
// means "not now", for example that a database is down. Then registered devices stay registered, a
// Register is refused with 5.03, and a handshake is dropped: no alert is sent, the server keeps
// nothing of it, and the device starts again after its own time-out.
//
// The server calls the methods from several goroutines, up to 64 calls at once. A call that takes
// longer than 5 s, or panics, counts as an error; its ctx ends then.
type Credentials interface {
	// PSK returns the pre-shared key of an identity, which the device claims: up to 64 KiB of
	// arbitrary bytes. The caller does not change the key.
	PSK(ctx context.Context, identity string) (key []byte, err error)
	// Endpoint returns the endpoint client name that an identity may register. For a certificate
	// the server calls it with each name, in this order, until one may register the endpoint: the
	// common name, DNS names and URIs. Usually the endpoint itself is in the certificate, and
	// Endpoint returns id.Name.
	Endpoint(ctx context.Context, id Identity) (endpoint string, err error)
}

// A CredentialsWatcher is [Credentials] that notice changes by themselves, as those of [PSKFile]
// do. A server watches them while it serves. Other Credentials may call [Server.Revoke] instead.
type CredentialsWatcher interface {
	Credentials
	// Watch calls revoked with the identities whose key or endpoint was removed or has changed. It
	// calls failed with the reason why the credentials cannot be read, once for each reason, and
	// with nil once they can be read again. It does so until stop is called.
	Watch(revoked func([]Identity), failed func(error)) (stop func())
}
