package coap_test

import (
	"context"
	"crypto/x509"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/internal/testkit"
)

// TestEndIdentities ends what one key has proven, but not what a certificate with the same name or
// another key has proven.
func TestEndIdentities(t *testing.T) {
	certs := testkit.NewCertificates(t, testIdentity)
	keys := map[string][]byte{testIdentity: testKey, "device-2": testKey}
	secure := dtls.Credentials{
		PSK:         func(id []byte) ([]byte, error) { return keys[string(id)], nil },
		Certificate: &certs.Server, ClientCAs: certs.Roots,
	}
	server := serveDTLS(t, coap.Config{Handler: whoami(nil)}, secure)
	type device struct {
		*coap.Endpoint
		peer   coap.Peer
		closed chan coap.Peer
	}
	connect := func(secure dtls.Credentials) device {
		d := device{closed: make(chan coap.Peer, 1)}
		var err error
		d.Endpoint, d.peer, err = dialDTLS(t, server.addr, coap.Config{OnClosed: func(p coap.Peer) { d.closed <- p }}, secure)
		require.NoError(t, err)
		return d
	}
	ask := func(d device) error {
		_, err := d.Do(limit(t), d.peer, &coap.Request{Code: coap.GET, Path: []string{"who"}})
		return err
	}
	other := pskClient()
	other.Identity = []byte("device-2")
	gone := []device{connect(pskClient()), connect(pskClient())}
	stay := []device{
		connect(other),
		connect(dtls.Credentials{Certificate: &certs.Device, RootCAs: certs.Roots, ServerName: "server"}),
	}
	for _, d := range append(gone, stay...) {
		require.NoError(t, ask(d))
	}
	kinds := make(map[dtls.IdentityKind]int)
	n := server.EndIdentities(func(id *dtls.Identity) bool {
		kinds[id.Kind()]++
		return string(id.PSKIdentity) == testIdentity
	})
	require.Equal(t, 2, n)
	require.Equal(t, map[dtls.IdentityKind]int{dtls.KeyIdentity: 3, dtls.CertificateIdentity: 1}, kinds)
	for _, d := range gone {
		select {
		case p := <-d.closed: // by the alert: the device made no request
			require.Equal(t, d.peer, p)
		case <-time.After(20 * time.Second):
			t.Fatal("the device was not notices")
		}
		require.ErrorIs(t, ask(d), coap.ErrNoPeer)
	}
	for _, d := range stay {
		require.NoError(t, ask(d))
	}
	require.Equal(t, 1, server.EndIdentities(func(id *dtls.Identity) bool {
		if id.Kind() != dtls.CertificateIdentity {
			return false
		}
		cert, err := x509.ParseCertificate(id.Certificates[0])
		return err == nil && cert.Subject.CommonName == testIdentity
	}))
	<-stay[1].closed
	require.NoError(t, ask(stay[0]))
}

// TestEndIdentitiesUnderWay also ends a handshake that found its key before the key was removed.
func TestEndIdentitiesUnderWay(t *testing.T) {
	looked, removed := make(chan struct{}), make(chan struct{})
	var asked atomic.Int32
	secure := dtls.Credentials{PSK: func(id []byte) ([]byte, error) {
		if asked.Add(1) == 1 {
			close(looked)
			<-removed
			return testKey, nil
		}
		return nil, dtls.ErrUnknownIdentity
	}}
	server := serveDTLS(t, coap.Config{Handler: whoami(nil)}, secure)
	failed := make(chan error, 1)
	go func() {
		client, peer, err := dialDTLS(t, server.addr, coap.Config{}, pskClient())
		if err == nil {
			_, err = client.Do(limit(t), peer, &coap.Request{Code: coap.GET, Path: []string{"who"}})
		}
		failed <- err
	}()
	<-looked
	require.Zero(t, server.EndIdentities(func(id *dtls.Identity) bool { return string(id.PSKIdentity) == testIdentity }))
	close(removed)
	err := <-failed
	require.Error(t, err)
	require.False(t, errors.Is(err, coap.ErrTimeout) || errors.Is(err, context.DeadlineExceeded), "the client does not learn of it: %v", err)
	require.Zero(t, coap.Holds(server.Endpoint).Peers)
}

// TestEmptyIdentity refuses a key for an empty identity, which looks like a peer without
// identity.
func TestEmptyIdentity(t *testing.T) {
	server := serveDTLS(t, coap.Config{Handler: whoami(nil)}, pskOf("", testKey))
	_, _, err := dialDTLS(t, server.addr, coap.Config{}, dtls.Credentials{Identity: []byte{}, Key: testKey})
	require.ErrorIs(t, err, dtls.ErrHandshake)
}
