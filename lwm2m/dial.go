package lwm2m

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
)

// dialer makes associations with servers, given by URI.
type dialer struct {
	psk         []byte
	pskIdentity string
	certificate *tls.Certificate
	roots       *x509.CertPool
	listen      func(context.Context) (net.PacketConn, error)
}

// dial makes an association with addr, an address of u.
func (d *dialer) dial(ctx context.Context, ep *coap.Endpoint, u serverURI, addr netip.AddrPort) (coap.Peer, error) {
	switch u.transport {
	case TransportUDP:
		conn, err := d.socket(ctx, addr)
		if err != nil {
			return coap.Peer{}, err
		}
		return ep.DialPacket(conn, addr)
	case TransportDTLS:
		conn, err := d.socket(ctx, addr)
		if err != nil {
			return coap.Peer{}, err
		}
		return ep.DialDTLS(ctx, conn, addr, d.dtls(u))
	default:
		return d.dialStream(ctx, ep, u, addr)
	}
}

// dtls returns the credentials for DTLS: the key if there is one, else certificates.
func (d *dialer) dtls(u serverURI) dtls.Credentials {
	if len(d.psk) > 0 {
		return dtls.Credentials{Identity: []byte(d.pskIdentity), Key: d.psk}
	}
	return dtls.Credentials{Certificate: d.certificate, RootCAs: d.roots, ServerName: u.host}
}

// socket makes a socket for datagrams to addr.
func (d *dialer) socket(ctx context.Context, addr netip.AddrPort) (net.PacketConn, error) {
	if d.listen != nil {
		return d.listen(ctx)
	}
	network := "udp6"
	if addr.Addr().Is4() {
		network = "udp4"
	}
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, network, ":0")
}

// dialTimeout bounds a connection's handshakes.
const dialTimeout = 30 * time.Second

// keepAlive probes idle connections, rarely enough to let a device sleep.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Minute, Interval: 30 * time.Second, Count: 4}

func (d *dialer) dialStream(ctx context.Context, ep *coap.Endpoint, u serverURI, addr netip.AddrPort) (coap.Peer, error) {
	if u.transport == TransportTLS && d.certificate == nil && len(d.psk) > 0 {
		return coap.Peer{}, fmt.Errorf("%w: %s with a pre-shared key; it takes a certificate", ErrUnsupportedScheme, u.transport)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nd := net.Dialer{KeepAliveConfig: keepAlive}
	conn, err := nd.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return coap.Peer{}, err
	}
	if u.transport == TransportTLS {
		config := &tls.Config{RootCAs: d.roots, ServerName: u.host, NextProtos: []string{alpnCoAP}, MinVersion: tls.VersionTLS12}
		if d.certificate != nil {
			config.Certificates = []tls.Certificate{*d.certificate}
		}
		conn = tls.Client(conn, config)
	}
	return ep.DialStream(ctx, conn)
}

// alpnCoAP is the protocol name of CoAP over TLS (RFC 8323 section 8.2).
const alpnCoAP = "coap"
