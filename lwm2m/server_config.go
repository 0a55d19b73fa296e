package lwm2m

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// ServerConfig is the configuration of a [Server]. The zero value serves devices without
// credentials, on loopback only.
type ServerConfig struct {
	// Credentials are the keys of the devices and the endpoints that they may register. Default:
	// none; then DTLS and TLS need certificates, and each certificate may register its own names.
	Credentials Credentials
	// Certificate is the server's certificate for DTLS and TLS. Default: none; then the server
	// offers only pre-shared keys.
	Certificate *tls.Certificate
	// ClientCAs are the roots of the devices' certificates. Default: none; then no certificate of a
	// device is accepted.
	ClientCAs *x509.CertPool
	// NoSec allows transports without security on addresses other than loopback. Default: refused.
	NoSec bool

	// ProveAddress requires a peer that downloads by coap over UDP to prove its address first
	// (Echo, RFC 9175), so that an attacker cannot direct a download at another host. Fetch
	// supports this; many devices do not, and take the challenge for a refusal. Default: downloads
	// begin at once, which suits secret paths.
	ProveAddress bool

	// Registrations keeps registrations over restarts. Default: they are kept in memory and lost.
	Registrations RegistrationStore
	// Models are the object models. Default: the built-in ones.
	Models *Models
	// Authorize is called before a Register is accepted, and before an Update that changes the
	// Attributes, with the registration as it would be stored and its proven identity. An error
	// refuses the device: with 4.03, or with the code of the [ResponseError] or category that it
	// matches. Default: all are accepted.
	Authorize func(context.Context, Registration) error
	// Hooks are functions for metrics and traces. Default: none.
	Hooks ServerHooks
	// Logger receives the server's log; the package documentation lists its fields. Keys are never
	// logged. Default: nothing is logged.
	Logger *slog.Logger

	// MinLifetime and MaxLifetime bound what devices ask for; a lifetime outside is refused with
	// 4.00. Defaults: 1 s and 10 years.
	MinLifetime, MaxLifetime time.Duration
	// MaxSilence is how long the registration of a device without a lifetime (lt=0) lasts after its
	// last message. Default: 30 days.
	MaxSilence time.Duration
	// AwakeTime is how long the server expects a device in queue mode to listen after a message.
	// Default: 93 s, MAX_TRANSMIT_WAIT of RFC 7252.
	AwakeTime time.Duration
	// AwakeTimeOf returns the AwakeTime of one device, such as one whose Attributes name its model.
	// 0 or less stands for AwakeTime; MaxLifetime bounds it. The server calls it with the
	// registration of each device in queue mode: at a Register, at an Update that changes the
	// registration, and after a restart. It must be quick, as the device waits for its answer:
	// while a call takes more than a second, the server does not wait for it and makes no other
	// call, and AwakeTime counts; so it does after a panic. Default: AwakeTime is that of all
	// devices.
	AwakeTimeOf func(Registration) time.Duration
	// FlushInterval is how long renewed lifetimes are collected before they are stored. Default: 20
	// s; at most 30 s.
	FlushInterval time.Duration
	// MaxRegistrations bounds the number of known endpoints; further ones are answered 5.03. With
	// Credentials or ClientCAs a quarter of it is reserved for endpoints that have used
	// credentials, as a peer without any can register any number of names; the same holds for
	// MaxRegistrationBytes. Default: 4 million.
	MaxRegistrations int
	// MaxRegistrationBytes bounds the text of all registrations together: names, lists of objects
	// (equal lists count once, plus 128 bytes), identities and so on. A Register or Update beyond
	// it is answered 5.03. Default: 1 GiB.
	MaxRegistrationBytes int64
	// MaxLinks bounds the list of objects of one Register or Update, in bytes, at most 64 KiB; a
	// longer one is answered 4.13. Default: 4 KiB.
	MaxLinks int
	// MaxMessage bounds a body that is collected in memory, from a device or for it. Default: 64
	// KiB.
	MaxMessage int
	// Gate reports whether the server may send, as the lease of a store does that several servers
	// share: see Holds of package store/postgres. The server asks right before each system call
	// that sends. While Gate returns false, datagrams are lost, as on their way, and connections
	// end. It must return at once. Default: always true.
	Gate func() bool
	// SocketBuffer is the size in bytes of the receive buffer and the send buffer that the server
	// asks the system for, for each UDP socket, so that datagrams of many devices at once are not
	// lost. It never makes a buffer smaller. The system may give less (on Linux,
	// net.core.rmem_max); below 4 MiB, enough for some 10,000 devices at once, the server logs a
	// warning. Default: 32 MiB.
	SocketBuffer int

	// The following bound what devices, hostile or merely numerous, can occupy at the same time.
	// Half of each bound is divided equally among five groups of peers: UDP from addresses that may
	// be forged, UDP from addresses that have answered, DTLS, TCP and TLS; the other half is first
	// come, first served. So one group gets six tenths at most, unless a field says otherwise.

	// MaxPeers bounds the addresses and DTLS associations that the server keeps, some 0.4 KB each
	// and 2.3 KB with DTLS. Beyond it the server forgets the address that was idle for longest,
	// which costs little over UDP, and refuses handshakes of DTLS. UDP gets nine tenths at most. It
	// also bounds the recent requests whose duplicates are recognized. Default: 1 million.
	MaxPeers int
	// MaxHandlers bounds the requests of devices that the server works on, such as Registers that
	// wait for the disk. Default: 256.
	MaxHandlers int
	// MaxWaiting bounds the requests of devices that wait for a handler, 1 KB each. Beyond it the
	// server drops a request over UDP and DTLS, which the device repeats after 2 s or more, and
	// answers one over TCP and TLS with 5.03. Default: 65,536.
	MaxWaiting int
	// MaxTransfers bounds the unfinished block-wise bodies from devices, and separately those for
	// devices: downloads of packages by CoAP, for example. Beyond it the server drops one that was
	// idle for longest, and its device fetches the next block of a package all the same. Default:
	// 4096.
	MaxTransfers int
	// MaxTransferBytes bounds the unfinished bodies from devices that are collected in memory.
	// Default: 64 MiB.
	MaxTransferBytes int64
	// MaxConnections bounds the connections of TCP and TLS, a goroutine and some KB each. TCP and
	// TLS have a quarter of it each, and the other half is for both. Default: a quarter of the
	// files that the process may open, at most 10,000.
	MaxConnections int
	// MaxHandshakes bounds the unfinished handshakes of each DTLS socket, 55 KB each. Beyond it
	// devices repeat their ClientHello after 1 s or more. Default: 1000.
	MaxHandshakes int
	// MaxLookups bounds the calls of Credentials at the same time. Further ones wait, for 5 s at
	// most. Default: 64.
	MaxLookups int
}

func (c ServerConfig) withDefaults() ServerConfig {
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.MinLifetime = max(cmp.Or(c.MinLifetime, time.Second), time.Second)
	c.MaxLifetime = cmp.Or(c.MaxLifetime, 10*365*24*time.Hour)
	c.MaxSilence = cmp.Or(c.MaxSilence, 30*24*time.Hour)
	c.AwakeTime = cmp.Or(c.AwakeTime, 93*time.Second)
	c.FlushInterval = cmp.Or(c.FlushInterval, 20*time.Second)
	c.MaxRegistrations = cmp.Or(c.MaxRegistrations, 4_000_000)
	c.MaxRegistrationBytes = cmp.Or(c.MaxRegistrationBytes, 1<<30)
	c.MaxLinks = cmp.Or(c.MaxLinks, 4<<10)
	c.MaxMessage = cmp.Or(c.MaxMessage, 64<<10)
	c.SocketBuffer = cmp.Or(c.SocketBuffer, 32<<20)
	c.MaxPeers = cmp.Or(c.MaxPeers, 1_000_000)
	c.MaxHandlers = cmp.Or(c.MaxHandlers, 256)
	c.MaxWaiting = cmp.Or(c.MaxWaiting, 65_536)
	c.MaxTransfers = cmp.Or(c.MaxTransfers, 4096)
	c.MaxTransferBytes = cmp.Or(c.MaxTransferBytes, 64<<20)
	c.MaxHandshakes = cmp.Or(c.MaxHandshakes, 1000)
	c.MaxLookups = cmp.Or(c.MaxLookups, 64)
	return c
}

// bounds returns the bounds of the endpoint. That of connections has a default of its own.
func (c *ServerConfig) bounds() coap.Bounds {
	b := coap.Bounds{
		Peers: c.MaxPeers, Workers: c.MaxHandlers, Queue: c.MaxWaiting,
		Uploads: c.MaxTransfers, UploadBytes: c.MaxTransferBytes, Downloads: c.MaxTransfers,
		Streams: c.MaxConnections, Handshakes: c.MaxHandshakes,
		DedupEntries: c.MaxPeers, DedupBytes: 64 * min(c.MaxPeers, math.MaxInt32/64),
	}
	if c.MaxConnections > 0 {
		b.StreamBytes = max(64<<20, 6<<10*int64(c.MaxConnections)) // as much for each as by default
	}
	return b
}

// check returns what is wrong with the configuration, before defaults are filled in.
func (c *ServerConfig) check() error {
	if c.Certificate != nil {
		if err := checkCertificate(c.Certificate); err != nil {
			return wrong("Certificate", "%w", err)
		}
	}
	if c.ClientCAs != nil && c.Certificate == nil {
		return errors.New("ClientCAs: set without Certificate")
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"MinLifetime", c.MinLifetime}, {"MaxLifetime", c.MaxLifetime}, {"MaxSilence", c.MaxSilence},
		{"AwakeTime", c.AwakeTime}, {"FlushInterval", c.FlushInterval},
	} {
		if d.value < 0 {
			return fmt.Errorf("%s: %s is negative", d.name, d.value)
		}
	}
	full := c.withDefaults()
	switch {
	case full.MaxLifetime < full.MinLifetime:
		return fmt.Errorf("MaxLifetime: %s is below MinLifetime, %s", full.MaxLifetime, full.MinLifetime)
	case c.FlushInterval > maxFlushInterval:
		return fmt.Errorf("FlushInterval: %s is more than %s", c.FlushInterval, maxFlushInterval)
	case c.MaxLinks < 0 || c.MaxLinks > 64<<10:
		return fmt.Errorf("MaxLinks: %d is not between 1 and 65536 bytes", c.MaxLinks)
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"MaxRegistrations", int64(c.MaxRegistrations)}, {"MaxRegistrationBytes", c.MaxRegistrationBytes},
		{"MaxMessage", int64(c.MaxMessage)}, {"SocketBuffer", int64(c.SocketBuffer)},
		{"MaxPeers", int64(c.MaxPeers)}, {"MaxHandlers", int64(c.MaxHandlers)}, {"MaxWaiting", int64(c.MaxWaiting)},
		{"MaxTransfers", int64(c.MaxTransfers)}, {"MaxTransferBytes", c.MaxTransferBytes},
		{"MaxConnections", int64(c.MaxConnections)}, {"MaxHandshakes", int64(c.MaxHandshakes)}, {"MaxLookups", int64(c.MaxLookups)},
	} {
		if n.value < 0 {
			return fmt.Errorf("%s: %d is negative", n.name, n.value)
		}
	}
	return nil
}

// maxFlushInterval bounds how old the renewals are that a crash can lose; see staleness.
const maxFlushInterval = 30 * time.Second
