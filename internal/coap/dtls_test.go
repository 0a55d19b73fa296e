package coap_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/internal/testkit"
)

const testIdentity = "device-1"

var testKey = []byte("secret")

// pskOf is a server's configuration with one identity.
func pskOf(identity string, key []byte) dtls.Credentials {
	return dtls.Credentials{PSK: func(id []byte) ([]byte, error) {
		if string(id) != identity {
			return nil, dtls.ErrUnknownIdentity
		}
		return key, nil
	}}
}

func pskClient() dtls.Credentials {
	return dtls.Credentials{Identity: []byte(testIdentity), Key: testKey}
}

// secureServer serves DTLS on a loopback socket until the test ends.
type secureServer struct {
	*coap.Endpoint
	addr   netip.AddrPort
	stop   func() // closes it, waits, and checks the error
	logged *testkit.Log
}

func serveDTLS(t *testing.T, config coap.Config, secure dtls.Credentials) *secureServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &secureServer{addr: conn.LocalAddr().(*net.UDPAddr).AddrPort(), logged: new(testkit.Log)}
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(s.logged, nil))
	}
	s.Endpoint = coap.New(config)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.ServeDTLS(ctx, conn, secure) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-served)
		require.NoError(t, s.Close())
	})
	t.Cleanup(s.stop)
	return s
}

// dialDTLS makes a client endpoint with an association to addr.
func dialDTLS(t *testing.T, addr netip.AddrPort, config coap.Config, secure dtls.Credentials) (*coap.Endpoint, coap.Peer, error) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	client := coap.New(config)
	t.Cleanup(func() { client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	peer, err := client.DialDTLS(ctx, conn, addr, secure)
	return client, peer, err
}

// whoami answers with the proven identity, and accepts and serves bodies.
func whoami(body []byte) coap.Handler {
	return handler(func(r *coap.IncomingRequest) *coap.Response {
		switch {
		case r.Code == coap.PUT:
			if !bytes.Equal(r.Payload, body) {
				return &coap.Response{Code: coap.BadRequest}
			}
			return &coap.Response{Code: coap.Changed}
		case r.Path() == "/body":
			return &coap.Response{Code: coap.Content, Body: bytes.NewReader(body), Size: int64(len(body)), ETag: []byte{1}}
		}
		name := string(r.Identity.PSKIdentity)
		if len(r.Identity.Certificates) > 0 {
			cert, err := x509.ParseCertificate(r.Identity.Certificates[0])
			if err != nil {
				return &coap.Response{Code: coap.InternalServerError}
			}
			name = "certificate of " + cert.Subject.CommonName
		}
		return &coap.Response{Code: coap.Content, Payload: []byte(name)}
	})
}

// TestDTLS makes associations with every kind of credential, with and without Connection ID, and
// transfers bodies over them in both directions.
func TestDTLS(t *testing.T) {
	certs := testkit.NewCertificates(t, testIdentity)
	both := pskOf(testIdentity, testKey)
	both.Certificate, both.ClientCAs = &certs.Server, certs.Roots
	x509Client := dtls.Credentials{Certificate: &certs.Device, RootCAs: certs.Roots, ServerName: "server"}
	body := bodyOf(20_000)
	for _, test := range []struct {
		name   string
		client dtls.Credentials
		server dtls.Credentials
		want   string
	}{
		{"PSK", pskClient(), pskOf(testIdentity, testKey), testIdentity},
		{"certificates", x509Client, dtls.Credentials{Certificate: &certs.Server, ClientCAs: certs.Roots}, "certificate of " + testIdentity},
		{"PSK, of both", pskClient(), both, testIdentity},
		{"certificates, of both", x509Client, both, "certificate of " + testIdentity},
	} {
		for _, noCID := range []bool{false, true} {
			name := test.name
			if noCID {
				name += " without Connection ID"
			}
			t.Run(name, func(t *testing.T) {
				server := serveDTLS(t, coap.Config{Handler: whoami(body)}, test.server)
				secure := test.client
				secure.NoConnectionID = noCID
				client, peer, err := dialDTLS(t, server.addr, coap.Config{}, secure)
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				resp, err := client.Do(ctx, peer, &coap.Request{Code: coap.GET, Path: []string{"who"}})
				require.NoError(t, err)
				require.Equal(t, test.want, string(resp.Payload))
				resp, err = client.Do(ctx, peer, &coap.Request{Code: coap.PUT, Path: []string{"body"}, Payload: body})
				require.NoError(t, err)
				require.Equal(t, coap.Changed, resp.Code)
				var got bytes.Buffer
				_, err = client.Do(ctx, peer, &coap.Request{Code: coap.GET, Path: []string{"body"}, Into: &got})
				require.NoError(t, err)
				require.True(t, bytes.Equal(body, got.Bytes()))
			})
		}
	}
}
