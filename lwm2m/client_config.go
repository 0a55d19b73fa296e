package lwm2m

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"
)

// ClientConfig is the configuration of a [Client]. Endpoint and Server must be set.
type ClientConfig struct {
	// Endpoint is the endpoint client name, such as "urn:imei:490154203237518": 1 to 255 bytes of UTF-8 without control
	// characters.
	Endpoint string
	// Server is the server's URI: coap://, coaps://, coap+tcp:// or coaps+tcp://, a host and perhaps a port (5683, 5684).
	Server string

	// PSK is the pre-shared key for coaps, PSKIdentity its identity. Default identity: Endpoint.
	PSK         []byte
	PSKIdentity string
	// Certificate is what the device shows instead of using PSK, RootCAs what it checks the server's against.
	// Default: none; and the system's roots.
	Certificate *tls.Certificate
	RootCAs     *x509.CertPool

	// Version is the LwM2M version to begin with: "1.0", "1.1" or "1.2". A server that refuses it with 4.12 is asked again with
	// the next lower one. Default: "1.1".
	Version string
	// Lifetime is how long the registration lasts without an Update, in whole seconds; the server may write another.
	// Default: 300 s.
	Lifetime time.Duration
	// Queue says that the device sleeps when it has nothing to say. Default: it listens always.
	Queue bool

	// Objects are what the device offers. The client adds object 1 (Server) by itself, and a bare object 3 (Device) if there
	// is none. Object 0 (Security) is never offered.
	Objects []Object
	// Models are the object models. Default: the built-in ones.
	Models *Models
	// Logger receives what the client has to say, without the endpoint's name: a program with several clients adds it by
	// Logger.With. Default: nothing is.
	Logger *slog.Logger

	// MinRetry and MaxRetry bound the pause after a Register that failed; it doubles in between, with chance.
	// Defaults: 2 s and 5 min.
	MinRetry, MaxRetry time.Duration
	// MaxMessage bounds a body that is collected in memory. Default: 64 KiB. Values written through a [StreamWriter] are not
	// collected.
	MaxMessage int
	// Listen makes the socket for coap and coaps, anew for each attempt after a failed one. Default: an UDP socket on a free port.
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

// configure checks the configuration and puts the objects in place.
func (c *Client) configure() (err error) {
	if c.server, err = parseServerURI(c.config.Server); err != nil {
		return err
	}
	if c.server.host == "" {
		return fmt.Errorf("%w: %q names no host", ErrPath, c.config.Server)
	}
	if c.config.Endpoint == "" {
		return fmt.Errorf("%w: no endpoint name", ErrBadRequest)
	}
	if err := checkText("the endpoint name", c.config.Endpoint, maxEndpoint); err != nil {
		return err
	}
	if c.version, err = parseLwM2MVersion(c.config.Version); err != nil {
		return err
	}
	if c.config.Lifetime < time.Second {
		return fmt.Errorf("%w: lifetime %v is below a second", ErrBadRequest, c.config.Lifetime)
	}
	c.control = newServerObject(c, c.config)
	for _, o := range append(slices.Clone(c.config.Objects), c.control) {
		switch id := o.ID(); {
		case id == 0 || id == NoID:
			return fmt.Errorf("%w: object %d cannot be offered", ErrBadRequest, id)
		case c.objects[id] != nil:
			return fmt.Errorf("%w: object %d is there twice; 1 is the client's own", ErrBadRequest, id)
		default:
			c.objects[id] = o
			c.ids = append(c.ids, id)
		}
	}
	if c.objects[3] == nil {
		c.objects[3] = DeviceObject{}
		c.ids = append(c.ids, 3)
	}
	slices.Sort(c.ids)
	return nil
}
