package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/pki"
)

func TestHandshakeBothWays(t *testing.T) {
	dir := t.TempDir()
	ca, _, err := pki.OpenCA(dir)
	require.NoError(t, err)
	require.NoError(t, ca.IssueServer("server", []string{"localhost", "127.0.0.1"}))
	require.Less(t, len(load(t, dir, "server").Certificate[0]), 500, "it fits into the smallest buffers of devices")

	// A later run finds the existing authority.
	ca, fresh, err := pki.OpenCA(dir)
	require.NoError(t, err)
	require.False(t, fresh)
	const endpoint = "urn:imei:490154203237518"
	require.NoError(t, ca.IssueDevice(endpoint))

	roots := x509.NewCertPool()
	pemCA, err := os.ReadFile(ca.CertFile())
	require.NoError(t, err)
	require.True(t, roots.AppendCertsFromPEM(pemCA))

	for _, host := range []string{"localhost", "127.0.0.1"} {
		server := &tls.Config{
			Certificates: []tls.Certificate{load(t, dir, "server")},
			ClientCAs:    roots, ClientAuth: tls.RequireAndVerifyClientCert,
		}
		client := &tls.Config{
			Certificates: []tls.Certificate{load(t, dir, pki.FileName(endpoint))},
			RootCAs:      roots, ServerName: host,
		}
		a, b := net.Pipe()
		peer := tls.Server(a, server)
		done := make(chan error, 1)
		go func() { done <- peer.Handshake() }()
		require.NoError(t, tls.Client(b, client).Handshake())
		require.NoError(t, <-done)
		leaf := peer.ConnectionState().PeerCertificates[0]
		require.Equal(t, endpoint, leaf.Subject.CommonName)
		require.Equal(t, endpoint, leaf.URIs[0].String())
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	ca, _, err := pki.OpenCA(dir)
	require.NoError(t, err)
	require.NoError(t, ca.IssueServer("server", []string{"a.example"}))
	require.ErrorIs(t, ca.IssueServer("server", []string{"b.example"}), fs.ErrExist)
	require.NoError(t, ca.IssueDevice("d"))
	require.ErrorIs(t, ca.IssueDevice("d"), fs.ErrExist)

	require.NoError(t, os.Remove(ca.CertFile()))
	_, _, err = pki.OpenCA(dir)
	require.ErrorContains(t, err, "ca.key exists")
}

func TestKeysArePrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("file modes are Unix's")
	}
	dir := t.TempDir()
	ca, _, err := pki.OpenCA(dir)
	require.NoError(t, err)
	require.NoError(t, ca.IssueServer("server", []string{"localhost"}))
	keys, err := filepath.Glob(filepath.Join(dir, "*.key"))
	require.NoError(t, err)
	require.Len(t, keys, 2)
	for _, key := range keys {
		info, err := os.Stat(key)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), key)
	}
}

func TestRefused(t *testing.T) {
	ca, _, err := pki.OpenCA(t.TempDir())
	require.NoError(t, err)
	require.Error(t, ca.IssueServer("server", nil))
	require.Error(t, ca.IssueServer("server", []string{"https://example.com"}))
	for _, endpoint := range []string{"", "a\nb", "\xff", strings.Repeat("x", 65)} {
		require.Error(t, ca.IssueDevice(endpoint), "%q", endpoint)
	}
}

func TestFileName(t *testing.T) {
	for endpoint, want := range map[string]string{
		"urn:imei:1": "device-urn_imei_1",
		"../x y":     "device-..%2Fx%20y",
		"ä":          "device-%C3%A4",
	} {
		require.Equal(t, want, pki.FileName(endpoint))
	}
}

func load(t *testing.T, dir, name string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
	require.NoError(t, err)
	return pair
}
