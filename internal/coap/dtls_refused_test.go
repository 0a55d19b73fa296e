package coap_test

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// TestRefusedCredentials says on both sides why there is no association.
func TestRefusedCredentials(t *testing.T) {
	certs, others := newCertificates(t), newCertificates(t)
	both := pskOf(testIdentity, testKey)
	both.Certificate, both.ClientCAs = &certs.server, certs.roots
	for _, test := range []struct {
		name           string
		client         coap.DTLSConfig
		is             error  // at the client
		client2, there string // what the client's error, and the server's log, say
	}{
		{"wrong key", coap.DTLSConfig{Identity: []byte(testIdentity), Key: []byte("another")}, coap.ErrWrongKey, "", "keys differ"},
		{"unknown identity", coap.DTLSConfig{Identity: []byte("stranger"), Key: testKey}, coap.ErrUnknownIdentity, "", "unknown PSK identity"},
		{"expired certificate", coap.DTLSConfig{Certificate: &certs.expired, RootCAs: certs.roots, ServerName: "server"}, nil, "BadCertificate", "expired"},
		{"certificate of another CA", coap.DTLSConfig{Certificate: &others.device, RootCAs: certs.roots, ServerName: "server"}, nil, "BadCertificate", "unknown authority"},
		{"no certificate", coap.DTLSConfig{RootCAs: certs.roots, ServerName: "server"}, nil, "ertificate", "client verification"},
		{"server of another CA", coap.DTLSConfig{Certificate: &certs.device, RootCAs: others.roots, ServerName: "server"}, nil, "unknown authority", "BadCertificate"},
		{"server of another name", coap.DTLSConfig{Certificate: &certs.device, RootCAs: certs.roots, ServerName: "else"}, nil, "valid for", "BadCertificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := serveDTLS(t, coap.Config{}, both)
			client, peer, err := dialDTLS(t, server.addr, coap.Config{}, test.client)
			if err == nil {
				// The last word of the handshake is the server's.
				_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.GET})
			}
			require.ErrorIs(t, err, coap.ErrHandshake)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			require.ErrorContains(t, err, test.client2)
			require.Eventually(t, func() bool { return bytes.Contains([]byte(server.logged.String()), []byte(test.there)) },
				10*time.Second, 5*time.Millisecond, "%v", server.logged)
		})
	}
}

// TestNobodyThere gives up when the context ends.
func TestNobodyThere(t *testing.T) {
	client := coap.New(coap.Config{})
	defer client.Close()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = client.DialDTLS(ctx, conn, silent.LocalAddr().(*net.UDPAddr).AddrPort(), pskClient())
	require.ErrorIs(t, err, coap.ErrHandshake)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
