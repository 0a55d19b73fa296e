package lwm2m_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/lwm2m"
)

// keys returns the credentials in the lines of a file.
func keys(t *testing.T, lines string) *lwm2m.PSKFileCredentials {
	t.Helper()
	name := filepath.Join(t.TempDir(), "devices.psk")
	require.NoError(t, os.WriteFile(name, []byte(lines), 0o600))
	return lwm2m.PSKFile(name)
}

// secured is a server on DTLS that a test can restart at its address.
type secured struct {
	*lwm2m.Server
	uri        string
	registered chan lwm2m.Registration
	stop       func()
}

func secure(t *testing.T, addr string, config lwm2m.ServerConfig) *secured {
	t.Helper()
	var conn net.PacketConn
	// After a restart another process may hold the port for a moment.
	require.Eventually(t, func() (ok bool) {
		var err error
		conn, err = net.ListenPacket("udp", addr)
		return err == nil
	}, 20*time.Second, 50*time.Millisecond)
	s := &secured{
		Server: lwm2m.MustServer(config), uri: "coaps://" + conn.LocalAddr().String(), registered: make(chan lwm2m.Registration, 16),
	}
	s.Watch(func(e lwm2m.RegistrationEvent) {
		if e.Kind == lwm2m.EventRegistered {
			s.registered <- e.Registration
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.ServeDTLS(ctx, conn) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-served)
	})
	t.Cleanup(s.stop)
	return s
}

// run runs a client until the test ends.
func run(t *testing.T, config lwm2m.ClientConfig) *lwm2m.Client {
	t.Helper()
	config.MinRetry = 10 * time.Millisecond
	client, err := lwm2m.NewClient(config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- client.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ran)
	})
	return client
}

// TestDTLS runs a device over DTLS with a key and with a certificate, through Register, Read,
// Observe, a push and downloads, and a restart of the server.
func TestDTLS(t *testing.T) {
	pool, certificate := testkit.SelfSigned(t, endpointName)
	for _, test := range []struct {
		name     string
		server   lwm2m.ServerConfig
		client   lwm2m.ClientConfig
		fetch    lwm2m.FetchConfig
		identity lwm2m.Identity
	}{
		{
			"PSK", lwm2m.ServerConfig{Credentials: keys(t, "id-1 736563726574 "+endpointName)},
			lwm2m.ClientConfig{PSK: []byte("secret"), PSKIdentity: "id-1"},
			lwm2m.FetchConfig{PSK: []byte("secret"), PSKIdentity: "id-1"},
			lwm2m.Identity{Kind: lwm2m.IdentityPSK, Name: "id-1"},
		},
		{
			"certificate", lwm2m.ServerConfig{Certificate: &certificate, ClientCAs: pool},
			lwm2m.ClientConfig{Certificate: &certificate, RootCAs: pool},
			lwm2m.FetchConfig{Certificate: &certificate, RootCAs: pool},
			lwm2m.Identity{Kind: lwm2m.IdentityCertificate, Name: endpointName},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			server := secure(t, "127.0.0.1:0", test.server)
			image := bytes.Repeat([]byte("image"), 20_000)
			serve := func(s *lwm2m.Server) {
				s.Handle("/fw/x", &lwm2m.Download{Body: bytes.NewReader(image), Size: int64(len(image)), ETag: []byte{1}})
			}
			serve(server.Server)

			object := newCollector()
			device := lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{FirmwareVersion: "1.0"})
			config := test.client
			config.Endpoint, config.Server = endpointName, server.uri
			config.Objects = []lwm2m.Object{device, object}
			client := run(t, config)
			r := <-server.registered
			require.Equal(t, "coaps", r.Transport.String())
			require.True(t, r.Secured)
			require.Equal(t, test.identity, r.Identity)

			values := make(chan lwm2m.Value, 4)
			_, err := server.Observe(ctx, endpointName, lwm2m.NewPath(3, 0, 3), func(e []lwm2m.Entry) { values <- e[0].Value })
			require.NoError(t, err)
			require.Equal(t, lwm2m.String("1.0"), <-values)
			device.Set(lwm2m.NewPath(3, 0, 3), lwm2m.String("1.1"))
			require.Equal(t, lwm2m.String("1.1"), <-values)

			body := bytes.Repeat([]byte{7}, 100_000)
			require.NoError(t, errOf(server.Do(ctx, lwm2m.Request{
				Endpoint: endpointName, Operation: lwm2m.OpWriteStream, Path: lwm2m.NewPath(5, 0, 0), Body: bytes.NewReader(body), Size: int64(len(body)),
				Exclusive: true,
			})))
			require.True(t, bytes.Equal(body, <-object.got))

			var into bytes.Buffer
			_, err = lwm2m.Fetch(ctx, server.uri+"/fw/x", &into, test.fetch)
			require.NoError(t, err)
			require.True(t, bytes.Equal(image, into.Bytes()))
			into.Reset()
			_, err = client.Fetch(ctx, server.uri+"/fw/x", &into, lwm2m.FetchConfig{})
			require.NoError(t, err)
			require.True(t, bytes.Equal(image, into.Bytes()))

			// The server restarts, and has no associations.
			server.stop()
			server = secure(t, server.uri[len("coaps://"):], test.server)
			again := <-server.registered
			require.NotEqual(t, r.ID, again.ID)
			_, err = server.Read(ctx, endpointName, lwm2m.NewPath(3, 0, 3))
			require.NoError(t, err)
		})
	}
}

// TestDTLSEndpointIsChecked: only the endpoint of the credentials can register.
func TestDTLSEndpointIsChecked(t *testing.T) {
	server := secure(t, "127.0.0.1:0", lwm2m.ServerConfig{Credentials: keys(t, "id-1 01 mine\nid-2 02")})
	refused := new(lines)
	run(t, lwm2m.ClientConfig{
		Endpoint: "another's", Server: server.uri, PSK: []byte{1}, PSKIdentity: "id-1", Logger: slog.New(slog.NewTextHandler(refused, nil)),
	})
	unknown := new(lines)
	run(t, lwm2m.ClientConfig{
		Endpoint: "nobody", Server: server.uri, PSK: []byte{1}, Logger: slog.New(slog.NewTextHandler(unknown, nil)),
	})
	wrong := new(lines)
	run(t, lwm2m.ClientConfig{
		Endpoint: "id-2", Server: server.uri, PSK: []byte{3}, Logger: slog.New(slog.NewTextHandler(wrong, nil)),
	})
	run(t, lwm2m.ClientConfig{Endpoint: "mine", Server: server.uri, PSK: []byte{1}, PSKIdentity: "id-1"})
	require.Equal(t, "mine", (<-server.registered).Endpoint)
	for log, want := range map[*lines]string{refused: "4.03", unknown: "unknown PSK identity", wrong: "keys differ"} {
		require.Eventually(t, func() bool { return bytes.Contains(log.get(), []byte(want)) }, 20*time.Second, 5*time.Millisecond, want)
	}
	for r := range server.Registrations() {
		require.Equal(t, "mine", r.Endpoint)
	}
}

// TestDTLSIsSticky: an endpoint that has used credentials cannot register without them.
func TestDTLSIsSticky(t *testing.T) {
	server := secure(t, "127.0.0.1:0", lwm2m.ServerConfig{Credentials: keys(t, "mine 01\nother 02")})
	ctx, cancel := context.WithCancel(t.Context())
	conn, open := listen()
	served := make(chan error, 1)
	go func() { served <- server.ServePacket(ctx, conn) }()
	run(t, lwm2m.ClientConfig{Endpoint: "mine", Server: server.uri, PSK: []byte{1}})
	require.True(t, (<-server.registered).Secured)
	log := new(lines)
	run(t, lwm2m.ClientConfig{Endpoint: "mine", Server: open, Logger: slog.New(slog.NewTextHandler(log, nil))})
	require.Eventually(t, func() bool { return bytes.Contains(log.get(), []byte("4.03")) }, 20*time.Second, 5*time.Millisecond)
	r, ok := server.Registration("mine")
	require.True(t, ok)
	require.True(t, r.Secured)
	require.True(t, r.Ended.IsZero())
	cancel()
	require.NoError(t, <-served)
}

// TestDTLSRegistrationIsItsOwners: another identity can neither update nor end a registration, nor
// see that it exists.
func TestDTLSRegistrationIsItsOwners(t *testing.T) {
	server := secure(t, "127.0.0.1:0", lwm2m.ServerConfig{Credentials: keys(t, "mine 01\nother 02")})
	run(t, lwm2m.ClientConfig{Endpoint: "mine", Server: server.uri, PSK: []byte{1}})
	r := <-server.registered
	for _, try := range []struct {
		identity string
		key      byte
		want     coap.Code
	}{{"other", 2, coap.NotFound}, {"mine", 1, coap.Changed}} {
		identity, key, want := try.identity, []byte{try.key}, try.want
		ep := coap.New(coap.Config{})
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		peer, err := ep.DialDTLS(t.Context(), conn, netip.MustParseAddrPort(server.uri[len("coaps://"):]),
			dtls.Credentials{Identity: []byte(identity), Key: key})
		require.NoError(t, err)
		resp, err := ep.Do(t.Context(), peer, &coap.Request{Code: coap.POST, Path: []string{"rd", r.ID}})
		require.NoError(t, err)
		require.Equal(t, want, resp.Code)
		if want == coap.NotFound {
			resp, err = ep.Do(t.Context(), peer, &coap.Request{Code: coap.DELETE, Path: []string{"rd", r.ID}})
			require.NoError(t, err)
			require.Equal(t, want, resp.Code)
			still, _ := server.Registration("mine")
			require.True(t, still.Ended.IsZero())
			require.Equal(t, r.Address, still.Address)
		}
		require.NoError(t, ep.Close())
	}
}

// TestDTLSKindsOfIdentities uses a key and a certificate of the same name: neither has the rights
// of the other.
func TestDTLSKindsOfIdentities(t *testing.T) {
	pool, certificate := testkit.SelfSigned(t, "idA")
	server := secure(t, "127.0.0.1:0", lwm2m.ServerConfig{
		Credentials: keys(t, "idA 01 epA\n"), Certificate: &certificate, ClientCAs: pool,
	})
	connect := func(config dtls.Credentials) func(code coap.Code, path []string, query string) coap.Code {
		device := coap.New(coap.Config{})
		t.Cleanup(func() { require.NoError(t, device.Close()) })
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		peer, err := device.DialDTLS(t.Context(), conn, netip.MustParseAddrPort(server.uri[len("coaps://"):]), config)
		require.NoError(t, err)
		return func(code coap.Code, path []string, query string) coap.Code {
			r := &coap.Request{Code: code, Path: path}
			if query != "" {
				r.Queries, r.ContentFormat, r.Payload = []string{query, "lwm2m=1.1"}, coap.FormatOf(40), []byte("</3/0>")
			}
			resp, err := device.Do(t.Context(), peer, r)
			require.NoError(t, err)
			return resp.Code
		}
	}
	byKey := connect(dtls.Credentials{Identity: []byte("idA"), Key: []byte{1}})
	byCertificate := connect(dtls.Credentials{Certificate: &certificate, RootCAs: pool, ServerName: "127.0.0.1"})

	require.Equal(t, coap.Forbidden, byCertificate(coap.POST, []string{"rd"}, "ep=epA"))
	require.Equal(t, coap.Forbidden, byKey(coap.POST, []string{"rd"}, "ep=idA"))
	require.Equal(t, coap.Created, byKey(coap.POST, []string{"rd"}, "ep=epA"))
	require.Equal(t, coap.Created, byCertificate(coap.POST, []string{"rd"}, "ep=idA"))
	key, _ := server.Registration("epA")
	require.Equal(t, pskIdentity("idA"), key.Identity)
	named, _ := server.Registration("idA")
	require.Equal(t, certificateIdentity("idA"), named.Identity)
	for _, code := range []coap.Code{coap.POST, coap.DELETE} {
		require.Equal(t, coap.NotFound, byCertificate(code, []string{"rd", key.ID}, ""))
		require.Equal(t, coap.NotFound, byKey(code, []string{"rd", named.ID}, ""))
	}
	server.Revoke(certificateIdentity("idA"))
	require.Equal(t, coap.Changed, byKey(coap.POST, []string{"rd", key.ID}, ""))
	require.False(t, server.Reachable("idA"))
	require.True(t, server.Reachable("epA"))
}

// TestDTLSNeedsCredentials: the server refuses to serve when no device could authenticate.
func TestDTLSNeedsCredentials(t *testing.T) {
	_, certificate := testkit.SelfSigned(t, endpointName)
	for _, config := range []lwm2m.ServerConfig{{}, {Certificate: &certificate}} {
		require.ErrorIs(t, lwm2m.MustServer(config).ListenAndServe(t.Context(), "coaps://127.0.0.1:0"), lwm2m.ErrNoCredentials)
	}
	_, err := lwm2m.Fetch(t.Context(), "coaps://127.0.0.1:1/x", new(bytes.Buffer), lwm2m.FetchConfig{
		Certificate: &tls.Certificate{}, Listen: func(context.Context) (net.PacketConn, error) { return net.ListenPacket("udp", "127.0.0.1:0") },
	})
	require.ErrorIs(t, err, lwm2m.ErrUnreachable)
}

// lines collects a log.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) get() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.buf.Bytes())
}
