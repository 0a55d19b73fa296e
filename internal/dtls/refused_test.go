package dtls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/testkit"
)

// TestRefusedCredentials checks that both sides report why there is no association.
func TestRefusedCredentials(t *testing.T) {
	certs, others := testkit.NewCertificates(t, testIdentity), testkit.NewCertificates(t, testIdentity)
	both := pskOf(testIdentity, testKey)
	both.Certificate, both.ClientCAs = &certs.Server, certs.Roots
	for _, test := range []struct {
		name           string
		client         Credentials
		is             error  // at the client
		client2, there string // in the client's error, and in the server's log
	}{
		{"wrong key", Credentials{Identity: []byte(testIdentity), Key: []byte("another")}, ErrWrongKey, "", "keys differ"},
		{"unknown identity", Credentials{Identity: []byte("stranger"), Key: testKey}, ErrUnknownIdentity, "", "unknown PSK identity"},
		{"expired certificate", Credentials{Certificate: &certs.Expired, RootCAs: certs.Roots, ServerName: "server"}, nil, "BadCertificate", "expired"},
		{"certificate of another CA", Credentials{Certificate: &others.Device, RootCAs: certs.Roots, ServerName: "server"}, nil, "BadCertificate", "unknown authority"},
		{"no certificate", Credentials{RootCAs: certs.Roots, ServerName: "server"}, nil, "ertificate", "client verification"},
		{"server of another CA", Credentials{Certificate: &certs.Device, RootCAs: others.Roots, ServerName: "server"}, nil, "unknown authority", "BadCertificate"},
		{"server of another name", Credentials{Certificate: &certs.Device, RootCAs: certs.Roots, ServerName: "else"}, nil, "valid for", "BadCertificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := serve(t, both)
			_, err := dial(t, server.addr, test.client)
			require.ErrorIs(t, err, ErrHandshake)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			require.ErrorContains(t, err, test.client2)
			require.Eventually(t, func() bool { return bytes.Contains([]byte(server.logged.String()), []byte(test.there)) },
				20*time.Second, 5*time.Millisecond, "%v", server.logged)
		})
	}
}

// alertsOf counts the alerts that a socket receives.
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

// TestKeyLookUpFails checks that the server refuses a client only when it knows that there is no
// key, because a refused client may never come back. After any other error the server sends nothing
// and keeps nothing, and the client's next handshake is like its first.
func TestKeyLookUpFails(t *testing.T) {
	for name, test := range map[string]struct {
		answer  func() ([]byte, error)
		refused bool
	}{
		"unknown": {func() ([]byte, error) { return nil, fmt.Errorf("table 1: %w", ErrUnknownIdentity) }, true},
		"no key":  {func() ([]byte, error) { return nil, nil }, true},
		"error":   {func() ([]byte, error) { return testKey, errors.New("no database") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var down atomic.Bool
			down.Store(true)
			asked := make(chan struct{}, 10)
			server := serve(t, Credentials{PSK: func([]byte) ([]byte, error) {
				if down.Load() {
					defer func() { asked <- struct{}{} }()
					return test.answer()
				}
				return testKey, nil
			}})
			alerts := new(atomic.Int32)
			client := newEnd(t, alertsOf{listen(t), alerts}, Config{Credentials: pskClient(), Server: server.addr})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := client.Dial(ctx)
				done <- err
			}()
			<-asked
			err := <-server.failed
			require.Equal(t, test.refused, errors.Is(err, ErrUnknownIdentity), "%v", err)
			if !test.refused {
				time.Sleep(1500 * time.Millisecond) // the client repeats its flight, for which the server no longer has state
				cancel()
			}
			require.Equal(t, test.refused, errors.Is(<-done, ErrUnknownIdentity))
			require.Equal(t, test.refused, alerts.Load() > 0)
			require.Empty(t, asked)
			down.Store(false)
			again, err := dial(t, server.addr, pskClient())
			require.NoError(t, err)
			again.ask(t, "hello")
		})
	}
}

// TestServerIsAway checks that Dial returns when the context ends.
func TestServerIsAway(t *testing.T) {
	silent := listen(t)
	defer silent.Close()
	client := newEnd(t, listen(t), Config{Credentials: pskClient(), Server: silent.LocalAddr().(*net.UDPAddr).AddrPort()})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client.Dial(ctx)
	require.ErrorIs(t, err, ErrHandshake)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
