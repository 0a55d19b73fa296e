package coap_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/internal/testkit"
)

// failure holds the arguments of a call of HandshakeFailed.
type failure struct {
	addr netip.AddrPort
	err  error
}

// failures returns a configuration that sends them to the channel.
func failures() (coap.Config, <-chan failure) {
	all := make(chan failure, 1000)
	return coap.Config{HandshakeFailed: func(_ coap.Transport, addr netip.AddrPort, _ string, err error) { all <- failure{addr, err} }}, all
}

func next(t *testing.T, all <-chan failure) failure {
	t.Helper()
	select {
	case f := <-all:
		return f
	case <-time.After(20 * time.Second):
		require.FailNow(t, "nothing was reported")
		return failure{}
	}
}

// A client that does not trust our certificate sends an alert, and is reported.
func TestUntrustedByDTLSClient(t *testing.T) {
	certs, others := testkit.NewCertificates(t, testIdentity), testkit.NewCertificates(t, testIdentity)
	config, all := failures()
	server := serveDTLS(t, config, dtls.Credentials{Certificate: &certs.Server, ClientCAs: certs.Roots})
	_, _, err := dialDTLS(t, server.addr, coap.Config{}, dtls.Credentials{Certificate: &certs.Device, RootCAs: others.Roots, ServerName: "server"})
	require.ErrorIs(t, err, dtls.ErrHandshake)
	f := next(t, all)
	require.ErrorContains(t, f.err, "peer sent alert: bad certificate")
	require.Equal(t, netip.MustParseAddr("127.0.0.1"), f.addr.Addr())

	_, _, err = dialDTLS(t, server.addr, coap.Config{}, dtls.Credentials{Certificate: &certs.Device, RootCAs: certs.Roots, ServerName: "server"})
	require.NoError(t, err)
	server.stop()
	require.Empty(t, all)
}

// A TLS client of any version is reported, too.
func TestUntrustedByTLSClient(t *testing.T) {
	certs, others := testkit.NewCertificates(t, testIdentity), testkit.NewCertificates(t, testIdentity)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			config, all := failures()
			server := coap.New(config)
			defer server.Close()
			tcp, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			l := tls.NewListener(tcp, &tls.Config{
				Certificates: []tls.Certificate{certs.Server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: certs.Roots,
				MinVersion: version, MaxVersion: version,
			})
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- server.ServeListener(ctx, l) }()
			for _, client := range []struct {
				config *tls.Config
				err    string
			}{
				{&tls.Config{Certificates: []tls.Certificate{certs.Device}, RootCAs: others.Roots, ServerName: "server"}, "remote error: tls: bad certificate"},
				{&tls.Config{Certificates: []tls.Certificate{others.Device}, RootCAs: certs.Roots, ServerName: "server"}, "unknown authority"},
			} {
				conn, err := net.Dial("tcp", tcp.Addr().String())
				require.NoError(t, err)
				secure := tls.Client(conn, client.config)
				_ = secure.HandshakeContext(ctx)
				f := next(t, all)
				require.ErrorContains(t, f.err, client.err)
				require.Equal(t, conn.LocalAddr().(*net.TCPAddr).AddrPort(), f.addr)
				secure.Close()
			}
			cancel()
			require.NoError(t, <-served)
			require.Empty(t, all)
		})
	}
}

// refusing is a connection whose Read fails like that of crypto/tls when the peer sends an alert.
type refusing struct{ net.Conn }

func (refusing) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}
}

// refusingListener accepts such connections.
type refusingListener struct{ net.Listener }

func (l refusingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return refusing{conn}, nil
}

func TestRefusedBeforeTheCSM(t *testing.T) {
	config, all := failures()
	server := coap.New(config)
	defer server.Close()
	l := listenTCP(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.ServeListener(ctx, refusingListener{l}) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.ErrorContains(t, next(t, all).err, "tls: bad certificate")
	cancel()
	require.NoError(t, <-served)
}

// Reports are limited, and the callee may panic and block.
func TestHandshakeReportsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		release := make(chan struct{})
		logged := new(testkit.Log)
		server := coap.New(coap.Config{
			Logger: slog.New(slog.NewTextHandler(logged, nil)),
			HandshakeFailed: func(coap.Transport, netip.AddrPort, string, error) {
				if calls.Add(1) > 200 {
					<-release
				}
				panic("no")
			},
		})
		defer server.Close()
		report := func(sum int32) {
			t.Helper()
			for range 1000 {
				coap.ReportHandshake(server, netip.AddrPort{}, errEnough)
			}
			synctest.Wait()
			require.Equal(t, sum, calls.Load())
			pass(time.Second)
		}
		report(100)
		report(200)
		require.Contains(t, logged.String(), "HandshakeFailed panicked")
		report(300)
		report(300) // these block
		close(release)
		synctest.Wait()
		report(400)
	})
}
