package lwm2m

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"time"
)

// ClientConfig is the configuration of a [Client]. Endpoint and Server must be set.
type ClientConfig struct {
	// Endpoint is the endpoint client name, such as "urn:imei:490154203237518": 1 to 255 bytes of UTF-8 without control
	// characters.
	Endpoint string
	// Server is the server's URI: coap://, coaps://, coap+tcp:// or coaps+tcp://, a host and perhaps a port (5683, 5684).
	Server string

	// PSK is the pre-shared key for coaps and coaps+tcp, PSKIdentity its identity. Default identity: Endpoint.
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
	// Logger receives what the client has to say. Default: nothing is.
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

// Client is the device's side of LwM2M: it registers with one server and answers its requests from [Object]s.
type Client struct{}

// NewClient returns a client. It starts nothing: see [Client.Run], which also reports a wrong configuration.
func NewClient(config ClientConfig) *Client { return &Client{} }

// Run registers and serves until ctx ends; then it de-registers, within 5 s, and returns nil. It retries for as long as it
// takes when the server cannot be reached. Otherwise it returns an error of the configuration, or the error with which
// the Run of an object ended ([Runner]). It may be called once.
func (c *Client) Run(ctx context.Context) error { return ErrNotImplemented }

// Notify says that values at or below paths have changed, or are there or gone. Observations that this concerns are told,
// as their attributes demand; if the instances of an object changed, the registration is updated. It does not block.
func (c *Client) Notify(paths ...Path) {}

// Send sends values to the server by itself (LwM2M 1.1) and returns when the server has acknowledged them. It is
// ErrNotRegistered if the client is not registered, and ErrForbidden if the server muted it (1/x/23).
func (c *Client) Send(ctx context.Context, entries []Entry) error { return ErrNotImplemented }

// Registered reports whether the client is registered, as far as it knows.
func (c *Client) Registered() bool { return false }

// WaitRegistered returns nil once the client is registered, or the error of ctx.
func (c *Client) WaitRegistered(ctx context.Context) error { return ErrNotImplemented }

// AfterResponse arranges that fn is called, in its own goroutine, once the response to the request that ctx belongs to
// has been sent and acknowledged, or given up. An [Object] calls it within Write or Execute with the ctx it was given. With
// another ctx fn is called at once.
func AfterResponse(ctx context.Context, fn func()) { go fn() }
