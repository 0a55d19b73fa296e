package lwm2m

// Credentials knows the keys of devices and which endpoint each belongs to. Methods are called from several goroutines,
// also while handshakes are going on, and should be quick.
type Credentials interface {
	// PSK returns the pre-shared key for an identity. The key is not changed by the caller.
	PSK(identity []byte) (key []byte, ok bool)
	// Endpoint returns the endpoint client name that an identity may register: a PSK identity, or the common name of a
	// certificate that was verified against [ServerConfig.ClientCAs]. ok is false for an identity that may register none.
	Endpoint(identity string) (endpoint string, ok bool)
}
