package coap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
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

// alertsOf counts the alerts that come by a socket.
type alertsOf struct {
	net.PacketConn
	alerts *atomic.Int32
}

func (c alertsOf) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := c.PacketConn.ReadFrom(b)
	if n > 0 && b[0] == 21 {
		c.alerts.Add(1)
	}
	return n, addr, err
}

// TestKeyThatNobodyCanTell tells a client that it is unknown only when that is known: who believes it may never come back.
// Otherwise nothing is sent and nothing kept, and the client's next handshake is the first.
func TestKeyThatNobodyCanTell(t *testing.T) {
	for name, test := range map[string]struct {
		answer  func() ([]byte, error)
		refused bool
	}{
		"unknown": {func() ([]byte, error) { return nil, fmt.Errorf("table 1: %w", coap.ErrUnknownIdentity) }, true},
		"no key":  {func() ([]byte, error) { return nil, nil }, true},
		"error":   {func() ([]byte, error) { return testKey, errors.New("no database") }, false},
		"panic":   {func() ([]byte, error) { panic("no database") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var down atomic.Bool
			down.Store(true)
			asked := make(chan struct{}, 10)
			failed := make(chan error, 10)
			server := serveDTLS(t, coap.Config{HandshakeFailed: func(_ netip.AddrPort, err error) { failed <- err }}, coap.DTLSConfig{PSK: func([]byte) ([]byte, error) {
				if down.Load() {
					defer func() { asked <- struct{}{} }()
					return test.answer()
				}
				return testKey, nil
			}})
			conn, err := net.ListenPacket("udp", "127.0.0.1:0")
			require.NoError(t, err)
			alerts := new(atomic.Int32)
			client := coap.New(coap.Config{})
			defer client.Close()
			ctx, cancel := context.WithCancel(limit(t))
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := client.DialDTLS(ctx, alertsOf{conn, alerts}, server.addr, pskClient())
				done <- err
			}()
			<-asked
			err = <-failed
			require.Equal(t, test.refused, errors.Is(err, coap.ErrUnknownIdentity), "%v", err)
			if !test.refused {
				pass(1500 * time.Millisecond) // it repeats its flight, of which the server knows nothing any more
				cancel()
			}
			require.Equal(t, test.refused, errors.Is(<-done, coap.ErrUnknownIdentity))
			require.Equal(t, test.refused, alerts.Load() > 0)
			require.Empty(t, asked)
			down.Store(false)
			again, peer, err := dialDTLS(t, server.addr, coap.Config{}, pskClient())
			require.NoError(t, err)
			_, err = again.Do(limit(t), peer, &coap.Request{Code: coap.GET})
			require.NoError(t, err)
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
