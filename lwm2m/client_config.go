package lwm2m

import (
	"cmp"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"time"
)

// ClientConfig is the configuration of a [Client]. Endpoint and Server must be set; the zero value
// of every other field works.
type ClientConfig struct {
	// Endpoint is the endpoint client name, such as "urn:imei:490154203237518": 1 to 252 bytes of
	// printable UTF-8. It goes into a Uri-Query option, "ep=NAME", of at most 255 bytes (RFC 7252,
	// section 5.10).
	Endpoint string
	// Server is the server's URI: coap://, coaps://, coap+tcp:// or coaps+tcp://, a host, and a
	// port unless it is 5683, or 5684 for coaps and coaps+tcp.
	Server string

	// PSK is the pre-shared key for coaps, and PSKIdentity the identity that belongs to it. Default
	// identity: Endpoint.
	PSK         []byte
	PSKIdentity string
	// Certificate, with its private key, authenticates the device instead of PSK. RootCAs verify
	// the server's certificate. coaps needs PSK, Certificate or, for a server that requests no
	// certificate, RootCAs; coaps+tcp needs Certificate or RootCAs. Default: no certificate; the
	// authorities of the system.
	Certificate *tls.Certificate
	RootCAs     *x509.CertPool

	// Version is the LwM2M version to register with first: "1.0", "1.1" or "1.2". When the server
	// refuses it with 4.12 the client tries the next lower one. Default: "1.1".
	Version string
	// Lifetime is how long the registration lasts without an Update: whole seconds, 1 s to 2^32-1
	// s. The server may write another one to 1/0/1. Default: 300 s.
	Lifetime time.Duration
	// Queue registers the device in queue mode: it sleeps between its own messages. Default: it can
	// be reached at any time.
	Queue bool
	// Attributes are further parameters of the Register, by name, which LwM2M does not define: see
	// [Registration].Attributes for their limits. "NAME=VALUE" has at most 255 bytes. Do not change
	// the map after [NewClient]. Default: none.
	Attributes map[string]string

	// Objects are the objects that the device offers. The client adds object 1 (Server), and a bare
	// object 3 (Device) if there is none. No client offers object 0 (Security).
	Objects []Object
	// Models are the object models. Default: the built-in ones.
	Models *Models
	// Logger receives the client's log. Its lines do not name the endpoint: a program with several
	// clients adds it with Logger.With. Default: no log.
	Logger *slog.Logger

	// MinRetry and MaxRetry bound the pause after a Register that failed. The pause doubles from
	// MinRetry to MaxRetry; up to half of it is random. Defaults: 2 s; 5 min, or MinRetry if that
	// is longer.
	MinRetry, MaxRetry time.Duration
	// MaxMessage is the largest body in bytes that the client collects in memory. Values that a
	// [StreamWriter] takes are not collected. Default: 64 KiB.
	MaxMessage int
	// Listen opens the socket for coap and coaps. The client calls it for each attempt to register
	// that follows a failure. Default: a UDP socket on a free port.
	Listen func(context.Context) (net.PacketConn, error)
}

func (c ClientConfig) withDefaults() ClientConfig {
	c.PSKIdentity = cmp.Or(c.PSKIdentity, c.Endpoint)
	c.Version = cmp.Or(c.Version, "1.1")
	c.Lifetime = cmp.Or(c.Lifetime, 300*time.Second)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.MinRetry = cmp.Or(c.MinRetry, 2*time.Second)
	c.MaxRetry = max(cmp.Or(c.MaxRetry, 5*time.Minute), c.MinRetry)
	c.MaxMessage = cmp.Or(c.MaxMessage, 64<<10)
	return c
}

// maxClientEndpoint leaves room for "ep=" in a Uri-Query option.
const maxClientEndpoint = maxQuery - len("ep=")

// check returns what is wrong with the configuration, before defaults are filled in, and the
// server's address.
func (c *ClientConfig) check() (server serverURI, err error) {
	switch {
	case c.Endpoint == "":
		return server, errors.New("Endpoint: not set")
	case len(c.Endpoint) > maxClientEndpoint:
		return server, fmt.Errorf("Endpoint: %d bytes are more than %d", len(c.Endpoint), maxClientEndpoint)
	case checkText("", c.Endpoint, maxClientEndpoint) != nil:
		return server, fmt.Errorf("Endpoint: %q is not printable UTF-8", c.Endpoint)
	case c.Server == "":
		return server, errors.New("Server: not set")
	}
	switch server, err = parseServerURI(c.Server); {
	case errors.Is(err, ErrUnsupportedScheme):
		return server, fmt.Errorf("Server: %q does not begin with coap://, coaps://, coap+tcp:// or coaps+tcp://", c.Server)
	case err != nil || server.host == "":
		return server, fmt.Errorf("Server: %q is not a scheme, a host and perhaps a port", c.Server)
	}
	if err := c.checkCredentials(server.transport); err != nil {
		return server, err
	}
	if c.Version != "" && c.Version != "1.0" && c.Version != "1.1" && c.Version != "1.2" {
		return server, fmt.Errorf("Version: %q is not 1.0, 1.1 or 1.2", c.Version)
	}
	if err := checkSentAttributes(c.Attributes); err != nil {
		return server, wrong("Attributes", "%w", err)
	}
	stream := server.transport == TransportTCP || server.transport == TransportTLS
	switch {
	case c.Lifetime < 0 || c.Lifetime > math.MaxUint32*time.Second || c.Lifetime%time.Second != 0:
		return server, wrong("Lifetime", "%s is not whole seconds from 1 s to 2^32-1 s", c.Lifetime)
	case c.MinRetry < 0:
		return server, fmt.Errorf("MinRetry: %s is negative", c.MinRetry)
	case c.MaxRetry < 0:
		return server, fmt.Errorf("MaxRetry: %s is negative", c.MaxRetry)
	case c.MaxRetry > 0 && c.MaxRetry < c.MinRetry:
		return server, fmt.Errorf("MaxRetry: %s is below MinRetry, %s", c.MaxRetry, c.MinRetry)
	case c.MaxMessage < 0:
		return server, fmt.Errorf("MaxMessage: %d is negative", c.MaxMessage)
	case c.Listen != nil && stream:
		return server, wrong("Listen", "%s does not use it", server.transport)
	}
	return server, nil
}

// checkCredentials refuses credentials that cannot work or that the transport would not use, and
// the lack of credentials that it needs.
func (c *ClientConfig) checkCredentials(transport Transport) error {
	if c.PSKIdentity != "" && len(c.PSK) == 0 {
		return errors.New("PSKIdentity: set without PSK")
	}
	if len(c.PSK) > 0 && c.Certificate != nil {
		return errors.New("PSK: Certificate is set too")
	}
	if c.Certificate != nil {
		if err := checkCertificate(c.Certificate); err != nil {
			return wrong("Certificate", "%w", err)
		}
	}
	field := "PSK"
	if c.Certificate != nil {
		field = "Certificate"
	}
	switch {
	case transport == TransportTLS && len(c.PSK) > 0:
		return errors.New("PSK: coaps+tcp takes a Certificate instead")
	case !transport.secured() && (len(c.PSK) > 0 || c.Certificate != nil):
		return fmt.Errorf("%s: %s is not secured and would not use it", field, transport)
	case transport == TransportDTLS && len(c.PSK) == 0 && c.Certificate == nil && c.RootCAs == nil:
		return errors.New("PSK: coaps needs it, Certificate or RootCAs")
	case transport == TransportTLS && c.Certificate == nil && c.RootCAs == nil:
		return wrong("Certificate", "coaps+tcp needs it or RootCAs")
	}
	return nil
}

// wrong returns an error about a field of a configuration.
func wrong(field, problem string, args ...any) error { return fmt.Errorf(field+": "+problem, args...) }

// checkCertificate refuses a certificate that cannot be used in a handshake. It does not check the
// period of validity: a device may not know the time yet.
func checkCertificate(certificate *tls.Certificate) error {
	if len(certificate.Certificate) == 0 {
		return errors.New("it is empty")
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return err
	}
	key, ok := certificate.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("it has no private key")
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(leaf.PublicKey) {
		return errors.New("its private key is of another certificate")
	}
	return nil
}

// configure checks the configuration and registers the objects.
func (c *Client) configure() (err error) {
	if c.server, err = c.config.check(); err != nil {
		return err
	}
	c.config = c.config.withDefaults()
	if c.version, err = parseLwM2MVersion(c.config.Version); err != nil {
		return err
	}
	c.control = newServerObject(c, c.config)
	for _, o := range append(slices.Clone(c.config.Objects), c.control) {
		if o == nil {
			return errors.New("Objects: one is nil")
		}
		id := o.ID()
		_, err := ParseVersion(cmp.Or(o.Version(), "1.0"))
		switch {
		case id == 0 || id == NoID:
			return fmt.Errorf("Objects: object %d is one that no client offers", id)
		case id == 1 && c.objects[1] == nil && o != c.control:
			return errors.New("Objects: the client adds object 1 (Server) by itself")
		case c.objects[id] != nil:
			return fmt.Errorf("Objects: object %d is there twice", id)
		case err != nil:
			return fmt.Errorf("Objects: object %d has the version %q, which is none", id, o.Version())
		}
		c.objects[id] = o
		c.ids = append(c.ids, id)
	}
	if c.objects[3] == nil {
		c.objects[3] = NewDeviceObject(DeviceObjectConfig{})
		c.ids = append(c.ids, 3)
	}
	slices.Sort(c.ids)
	return nil
}
