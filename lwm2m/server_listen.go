package lwm2m

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/otago-iot/otago/internal/dtls"
)

// ListenAndServe listens on the address of uri and serves devices until ctx ends, then returns nil;
// other errors are those of the configuration and of the network. Schemes are coap and coaps (UDP),
// coap+tcp and coaps+tcp; the port defaults to 5683 or 5684. It may be called several times, for
// several addresses. Without [ServerConfig.NoSec] it refuses coap and coap+tcp on addresses other
// than loopback. coaps needs [ServerConfig.Credentials], or Certificate and ClientCAs, else the
// error is [ErrNoCredentials]; coaps+tcp needs Certificate and ClientCAs, else it is
// [ErrNoCertificate].
//
//	coap://127.0.0.1:5683   coaps://:5684   coap+tcp://[::1]   coaps+tcp://
func (s *Server) ListenAndServe(ctx context.Context, uri string) error {
	a, err := parseServerURI(uri)
	if err != nil {
		return err
	}
	if !a.transport.secured() && !s.config.NoSec {
		if err := a.checkLoopback(ctx); err != nil {
			return err
		}
	}
	switch a.transport {
	case TransportUDP, TransportDTLS:
		var lc net.ListenConfig
		conn, err := lc.ListenPacket(ctx, "udp", a.hostPort())
		if err != nil {
			return err
		}
		if a.transport == TransportDTLS {
			return s.ServeDTLS(ctx, conn)
		}
		return s.ServePacket(ctx, conn)
	default:
		return s.listenStream(ctx, a)
	}
}

// ErrNoCredentials is the refusal to serve DTLS when no device could authenticate.
var ErrNoCredentials = errors.New("lwm2m: DTLS needs ServerConfig.Credentials, or Certificate and ClientCAs")

// ServeDTLS serves devices on conn with DTLS 1.2 until ctx ends, then closes conn and returns nil.
// Devices use a key of [ServerConfig.Credentials] or a certificate that [ServerConfig.ClientCAs]
// verify.
func (s *Server) ServeDTLS(ctx context.Context, conn net.PacketConn) error {
	secure := dtls.Credentials{Certificate: s.config.Certificate, ClientCAs: s.config.ClientCAs}
	if s.config.Credentials != nil {
		secure.PSK = s.psk
	}
	if secure.PSK == nil && (secure.Certificate == nil || secure.ClientCAs == nil) {
		conn.Close()
		return ErrNoCredentials
	}
	if err := s.enter(ctx); err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil // ctx ended while it loaded
		}
		return err
	}
	defer s.leave()
	return s.coap.ServeDTLS(ctx, conn, secure)
}

// ErrNoCertificate is the refusal to serve TLS without a certificate of the server, or without
// roots for those of the devices.
var ErrNoCertificate = errors.New("lwm2m: TLS needs ServerConfig.Certificate and ClientCAs")

func (s *Server) listenStream(ctx context.Context, a serverURI) error {
	if a.transport == TransportTLS && (s.config.Certificate == nil || s.config.ClientCAs == nil) {
		return ErrNoCertificate
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	l, err := lc.Listen(ctx, "tcp", a.hostPort())
	if err != nil {
		return err
	}
	if a.transport == TransportTLS {
		l = tls.NewListener(l, &tls.Config{
			Certificates: []tls.Certificate{*s.config.Certificate},
			ClientCAs:    s.config.ClientCAs,
			ClientAuth:   tls.RequireAndVerifyClientCert,
			NextProtos:   []string{alpnCoAP},
			MinVersion:   tls.VersionTLS12,
		})
	}
	return s.Serve(ctx, l)
}

// ServePacket serves devices on conn without security, whatever its address, until ctx ends, then
// closes conn and returns nil. It is for sockets that the caller made, and for networks in memory.
func (s *Server) ServePacket(ctx context.Context, conn net.PacketConn) error {
	if err := s.enter(ctx); err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil // ctx ended while it loaded
		}
		return err
	}
	defer s.leave()
	return s.coap.ServePacket(ctx, conn)
}

// Serve serves devices on the connections that l accepts until ctx ends, then closes l and returns
// nil. Connections that are [*crypto/tls.Conn], or have its methods HandshakeContext and
// ConnectionState, count as TLS, others as TCP without security.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if err := s.enter(ctx); err != nil {
		l.Close()
		if ctx.Err() != nil {
			return nil // ctx ended while it loaded
		}
		return err
	}
	defer s.leave()
	return s.coap.ServeListener(ctx, l)
}

// serverURI is the address of a server, to listen on or to connect to.
type serverURI struct {
	transport Transport
	host      string // "" for all addresses
	port      uint16
}

func (u serverURI) hostPort() string { return net.JoinHostPort(u.host, strconv.Itoa(int(u.port))) }

// parseServerURI reads a URI of scheme, host and port.
func parseServerURI(uri string) (serverURI, error) {
	u, err := parseURI(uri)
	if err != nil {
		return serverURI{}, err
	}
	a, err := endpointOf(u)
	if err != nil {
		return serverURI{}, err
	}
	if u.Opaque != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return serverURI{}, fmt.Errorf("%w: %q is more than scheme, host and port", ErrPath, uri)
	}
	return a, nil
}

// parseURI reads a URI that has a scheme.
func parseURI(uri string) (*url.URL, error) {
	if !strings.Contains(uri, "://") {
		return nil, fmt.Errorf("%w: %.100q does not begin with coap://, coaps://, coap+tcp:// or coaps+tcp://", ErrUnsupportedScheme, uri)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPath, err)
	}
	return u, nil
}

// endpointOf returns the transport, host and port of a CoAP URI.
func endpointOf(u *url.URL) (serverURI, error) {
	a := serverURI{host: u.Hostname(), port: 5683}
	for t := TransportUDP; t <= TransportTLS; t++ {
		if t.String() == u.Scheme {
			a.transport = t
		}
	}
	if a.transport == 0 {
		return serverURI{}, fmt.Errorf("%w: %q, not coap, coaps, coap+tcp or coaps+tcp", ErrUnsupportedScheme, u.Scheme)
	}
	if a.transport.secured() {
		a.port = 5684
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return serverURI{}, fmt.Errorf("%w: port %q", ErrPath, p)
		}
		a.port = uint16(n)
	}
	return a, nil
}

// ErrNoSec is the refusal to serve without security on an address that other hosts can reach; see
// [ServerConfig.NoSec].
var ErrNoSec = errors.New("lwm2m: no security on an address other than loopback")

func (u serverURI) checkLoopback(ctx context.Context) error {
	addrs := []netip.Addr{}
	if u.host != "" {
		var err error
		if addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", u.host); err != nil {
			return err
		}
	}
	for _, a := range addrs {
		if !a.Unmap().IsLoopback() {
			return fmt.Errorf("%w: %s", ErrNoSec, a.Unmap())
		}
	}
	if len(addrs) == 0 {
		return fmt.Errorf("%w: all addresses", ErrNoSec)
	}
	return nil
}
