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
	// IdentityCertificate: a name in a certificate that was verified against [ServerConfig.ClientCAs].
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

// Identity is what a device has proven by its credentials. The zero value is nothing. Identities of different kinds are never
// the same, whatever their names.
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

// ErrUnknownIdentity is what [Credentials] return for an identity that they do not know, or know no more.
var ErrUnknownIdentity = errors.New("lwm2m: unknown identity")

// Credentials knows the keys of devices and which endpoint each belongs to. It is asked in each handshake, and again about
// each Register, Update, Send and De-register of a device that has proven something.
//
// An error that matches [ErrUnknownIdentity] ends all associations of the identity: what is told to the device, and what it
// asks for, ends there. So does another key than the one that the association was made with. Any other error says that
// nobody can tell, for example because a database is down: until it is known who is registered stays so, Registers are refused
// with 5.03, and handshakes are dropped without an answer, so that no device is told that it is unknown, and tries again.
//
// Methods are called from several goroutines, up to 64 calls at once. A call that takes longer than 5 s, or panics, has
// failed; its ctx ends then.
type Credentials interface {
	// PSK returns the pre-shared key of an identity. The key is not changed by the caller.
	PSK(ctx context.Context, identity string) (key []byte, err error)
	// Endpoint returns the endpoint client name that an identity may register. The names of a certificate are asked for in
	// this order, until one may register the endpoint: its common name, DNS names and URIs. A certificate that shows the
	// endpoint itself is usual, and then Endpoint returns id.Name.
	Endpoint(ctx context.Context, id Identity) (endpoint string, err error)
}

// A CredentialsWatcher is [Credentials] that find out by themselves what has changed, as those of [PSKFile] do. A server
// watches them while it serves. Credentials of another kind may call [Server.Revoke] instead.
type CredentialsWatcher interface {
	Credentials
	// Watch calls revoked with the identities whose key or endpoint was removed or has changed, and failed with why the
	// credentials cannot be read at present: once for each reason, and with nil once they can be read again. It does so
	// until stop is called.
	Watch(revoked func([]Identity), failed func(error)) (stop func())
}
