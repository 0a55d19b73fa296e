// Package backend is a complete update server made of the library's parts: the LwM2M server, the
// manager, the repository, and the listeners for operators and for devices that download by HTTP.
// examples/server adds flags, examples/quickstart runs it on free ports.
//
//	b, err := backend.Listen(ctx, backend.Config{Store: db, Images: "images", CoAP: "127.0.0.1:5683", HTTP: "127.0.0.1:8080"})
//	...
//	log.Print(b.URL(backend.HTTP)) // what it really listens on
//	err = b.Run(ctx)               // until ctx ends
package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/otago-iot/otago/examples/leshan"
	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/console"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/telemetry"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// Config is the configuration of a backend. With an empty address nothing listens there; port 0
// means a free port.
type Config struct {
	Store    Store          // its owner closes it after Run
	Images   string         // folder of the repository; with Blobs, of copies
	MaxImage int64          // bytes; 0 is the library's default
	Blobs    firmware.Blobs // has the bytes of images; nil: the folder

	// Server and Manager have limits; Listen fills in the rest.
	Server  lwm2m.ServerConfig
	Manager firmware.ManagerConfig
	Web     firmware.HTTPConfig // of each of the doors for HTTP

	CoAP     string // devices, UDP without security
	CoAPS    string // devices, DTLS; needs Credentials, or Certificate and ClientCAs
	CoAPTCP  string // devices, TCP without security
	CoAPSTCP string // devices, TLS; needs Certificate and ClientCAs
	HTTP     string // operators
	FWHTTP   string // devices that download
	FWHTTPS  string // devices that download; needs Certificate

	Leshan Leshan

	NoSec       bool // CoAP without security may listen on addresses other than loopback
	Certificate *tls.Certificate
	ClientCAs   *x509.CertPool
	Credentials lwm2m.Credentials
	Models      *lwm2m.Models // nil stands for the built-in ones; the bridge adds to them
	// Token has the bearer tokens of operators, a line each, perhaps after a name; nil requires
	// none, and HTTP must then be on loopback.
	Token     []byte
	Advertise Advertise
	Logger    *slog.Logger

	PublicPrefix string // of firmware.DeliveryConfig

	// Telemetry gets the hooks of everything; nil: there is none. Metrics answers GET /metrics at
	// the door of operators, who need their token for it; nil: there is no such page.
	Telemetry *telemetry.Telemetry
	Metrics   http.Handler
}

// repository opens the repository of images.
func (c *Config) repository() (*firmware.Repository, error) {
	config := firmware.RepositoryConfig{MaxSize: c.MaxImage}
	if c.Blobs == nil {
		return firmware.OpenRepository(c.Images, c.Store, config)
	}
	config.Spool = c.Images
	if err := os.MkdirAll(c.Images, 0o700); err != nil {
		return nil, err
	}
	return firmware.NewRepository(c.Blobs, c.Store, config)
}

// Store keeps what there is to know of devices, images, updates and rollouts.
type Store interface {
	store.Store
	store.Rollouts
}

// A Door is one of the listeners of a backend.
type Door string

// The doors.
const (
	CoAP     Door = "coap"
	CoAPS    Door = "coaps"
	CoAPTCP  Door = "coap-tcp"
	CoAPSTCP Door = "coaps-tcp"
	HTTP     Door = "http"
	FWHTTP   Door = "fw-http"
	FWHTTPS  Door = "fw-https"
	// LeshanAPI is that of the bridge to flownexus.
	LeshanAPI Door = "leshan-api"
)

// schemes are the URI schemes of the doors.
var schemes = map[Door]firmware.Protocol{
	CoAP: firmware.ProtocolCoAP, CoAPS: firmware.ProtocolCoAPS, CoAPTCP: firmware.ProtocolCoAPTCP, CoAPSTCP: firmware.ProtocolCoAPSTCP,
	HTTP: firmware.ProtocolHTTP, FWHTTP: firmware.ProtocolHTTP, FWHTTPS: firmware.ProtocolHTTPS, LeshanAPI: firmware.ProtocolHTTP,
}

// Backend is an update server that listens. Run serves.
type Backend struct {
	config  Config
	server  *lwm2m.Server
	manager *firmware.Manager

	rollouts  *rollout.Manager
	operators operators
	// delivery is mounted on server and on the doors for downloads.
	delivery *firmware.Delivery
	bridge   *leshan.Bridge // nil without a Leshan.Sink

	packets   map[Door]net.PacketConn
	listeners map[Door]net.Listener
	open      map[Door]*atomic.Int64 // connections of the doors for HTTP
}

// Listen opens the repository and the sockets, so that errors show before anything runs. Run, or
// Close, closes them.
func Listen(ctx context.Context, config Config) (_ *Backend, err error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	b := &Backend{config: config, packets: map[Door]net.PacketConn{}, listeners: map[Door]net.Listener{}, open: map[Door]*atomic.Int64{}}
	for _, door := range doors {
		b.open[door] = new(atomic.Int64)
	}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	images, err := config.repository()
	if err != nil {
		return nil, err
	}
	b.delivery, err = firmware.NewDelivery(images, firmware.DeliveryConfig{
		BaseURLs: b.baseURL, PublicPrefix: config.PublicPrefix, Logger: config.Logger,
	})
	if err != nil {
		return nil, err
	}
	server, db, rolloutDB := config.Server, store.Store(config.Store), store.Rollouts(config.Store)
	manager := config.Manager
	if t := config.Telemetry; t != nil {
		db, rolloutDB, server.Hooks, manager.Hooks = t.Store(db), t.Rollouts(rolloutDB), t.ServerHooks(), t.Hooks()
	}
	if server.Models = config.Models; server.Models == nil {
		server.Models = &lwm2m.Models{}
	}
	if err := config.Leshan.addTo(server.Models); err != nil {
		return nil, err
	}
	server.Credentials, server.Certificate, server.ClientCAs = config.Credentials, config.Certificate, config.ClientCAs
	server.NoSec, server.Registrations, server.Logger = config.NoSec, firmware.Registrations(db), config.Logger
	if b.server, err = lwm2m.NewServer(server); err != nil {
		return nil, err
	}
	b.server.HandleFunc("/", b.delivery.ServeCoAP)
	manager.Delivery, manager.Inventory, manager.Logger = b.delivery, true, config.Logger
	manager.Keep = func(ctx context.Context, kind store.Kind, id string) (string, error) {
		return b.rollouts.Keep(ctx, kind, id) // it is there before Run deletes anything
	}
	if b.manager, err = firmware.NewManager(b.server, db, images, manager); err != nil {
		return nil, err
	}
	rollouts := rollout.Config{Retain: config.Manager.Retain.Age, Logger: config.Logger}
	if b.rollouts, err = rollout.NewManager(b.server, b.manager, rolloutDB, rollouts); err != nil {
		return nil, err
	}
	if config.Telemetry != nil {
		config.Telemetry.Observe(b.server, b.manager, b.rollouts)
	}
	if b.operators, err = parseOperators(config.Token); err != nil {
		return nil, err
	}
	if err := b.listen(ctx); err != nil {
		return nil, err
	}
	return b, b.openBridge()
}

func (c *Config) check() error {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.FWHTTPS != "" && c.Certificate == nil:
		return errors.New("HTTPS needs a certificate")
	case c.CoAPS != "" && c.Credentials == nil && (c.Certificate == nil || c.ClientCAs == nil):
		return errors.New("CoAP over DTLS needs keys, or a certificate and the authorities of the devices'")
	case c.CoAPSTCP != "" && (c.Certificate == nil || c.ClientCAs == nil):
		return errors.New("CoAP over TLS needs a certificate, and the authorities of the devices'")
	case !c.NoSec && (c.CoAP != "" && !IsLoopback(c.CoAP) || c.CoAPTCP != "" && !IsLoopback(c.CoAPTCP)):
		return errors.New("CoAP without security on another address than loopback has to be asked for")
	case c.HTTP != "" && c.Token == nil && !IsLoopback(c.HTTP):
		return fmt.Errorf("the operators' API on %s, which is not loopback, needs a token", c.HTTP)
	}
	return c.Leshan.check()
}

func (b *Backend) listen(ctx context.Context) error {
	var config net.ListenConfig
	for door, address := range map[Door]string{CoAP: b.config.CoAP, CoAPS: b.config.CoAPS} {
		if address == "" {
			continue
		}
		conn, err := config.ListenPacket(ctx, "udp", address)
		if err != nil {
			return fmt.Errorf("%s: %w", door, err)
		}
		b.packets[door] = conn
	}
	for door, address := range map[Door]string{
		CoAPTCP: b.config.CoAPTCP, CoAPSTCP: b.config.CoAPSTCP,
		HTTP: b.config.HTTP, FWHTTP: b.config.FWHTTP, FWHTTPS: b.config.FWHTTPS, LeshanAPI: b.config.Leshan.API,
	} {
		if address == "" {
			continue
		}
		l, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("%s: %w", door, err)
		}
		b.listeners[door] = l
	}
	return nil
}

// Close closes the sockets of a backend that will not run.
func (b *Backend) Close() {
	for _, conn := range b.packets {
		_ = conn.Close() // nothing was sent on it
	}
	for _, l := range b.listeners {
		_ = l.Close() // nothing was accepted from it
	}
}

// Manager returns the manager, for functions that the API lacks.
func (b *Backend) Manager() *firmware.Manager { return b.manager }

// Rollouts returns the manager of rollouts.
func (b *Backend) Rollouts() *rollout.Manager { return b.rollouts }

// URL returns the URL of a door, such as coap://127.0.0.1:5683 or http://127.0.0.1:8080, or "" if
// it does not listen.
func (b *Backend) URL(door Door) string {
	address := b.address(door)
	if address == nil {
		return ""
	}
	return schemes[door].String() + "://" + address.String()
}

// address returns the address of a door, or nil if it does not listen.
func (b *Backend) address(door Door) net.Addr {
	if conn, ok := b.packets[door]; ok {
		return conn.LocalAddr()
	}
	if l, ok := b.listeners[door]; ok {
		return l.Addr()
	}
	return nil
}

// Run serves until ctx ends, then waits a few seconds for work in progress, and returns nil.
func (b *Backend) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if conn := b.packets[CoAP]; conn != nil {
		group.Go(func() error { return b.server.ServePacket(ctx, conn) })
	}
	if conn := b.packets[CoAPS]; conn != nil {
		group.Go(func() error { return b.server.ServeDTLS(ctx, conn) })
	}
	if l := b.listeners[CoAPTCP]; l != nil {
		group.Go(func() error { return b.server.Serve(ctx, l) })
	}
	if l := b.listeners[CoAPSTCP]; l != nil {
		group.Go(func() error { return b.server.Serve(ctx, b.withDeviceTLS(l)) })
	}
	group.Go(func() error { return b.manager.Run(ctx) })
	group.Go(func() error { return b.rollouts.Run(ctx) })
	if b.bridge != nil {
		group.Go(func() error { return b.bridge.Run(ctx) })
	}

	quiet := slog.NewLogLogger(b.config.Logger.Handler(), slog.LevelDebug)
	if l := b.listeners[LeshanAPI]; l != nil {
		group.Go(func() error { return b.serveHTTP(ctx, LeshanAPI, l, b.bridge, quiet) })
	}
	if l := b.listeners[HTTP]; l != nil {
		api, err := httpapi.New(b.manager, b.operators.authorize, httpapi.Config{
			MaxImage: b.config.MaxImage, Rollouts: b.rollouts, Actor: b.operators.actor, Status: b.status,
			Logger: b.config.Logger,
		})
		if err != nil {
			return err
		}
		page, err := console.New(console.Config{})
		if err != nil {
			return err
		}
		handler := b.withMetrics(operatorsHandler(api, page))
		if b.config.Token == nil {
			handler = ownHostsOnly(handler)
		}
		if handler, err = b.withHealth(handler); err != nil {
			return err
		}
		group.Go(func() error { return b.serveHTTP(ctx, HTTP, l, handler, quiet) })
	}
	// No mux: it would redirect paths such as //x, and small clients do not follow redirects.
	packages := b.delivery
	if l := b.listeners[FWHTTP]; l != nil {
		group.Go(func() error { return b.serveHTTP(ctx, FWHTTP, l, packages, quiet) })
	}
	if l := b.listeners[FWHTTPS]; l != nil {
		group.Go(func() error {
			// Through the log the manager learns why a device does not download: because it does
			// not trust the certificate, for example.
			return b.serveHTTP(ctx, FWHTTPS, withTLS(l, *b.config.Certificate), packages, b.manager.ErrorLog())
		})
	}
	return group.Wait()
}

// withDeviceTLS requests certificates of devices (RFC 8323, section 9).
func (b *Backend) withDeviceTLS(l net.Listener) net.Listener {
	return firmware.NewTLSListener(l, &tls.Config{
		Certificates: []tls.Certificate{*b.config.Certificate},
		ClientCAs:    b.config.ClientCAs,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"coap"},
	})
}

// IsLoopback reports whether only this machine can reach a host:port.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
