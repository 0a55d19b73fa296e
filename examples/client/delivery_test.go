package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/backend"
	"github.com/otago-iot/otago/examples/internal/pki"
	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// TestDeliveries delivers the same image in every supported way.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, _, err := pki.OpenCA(dir)
	require.NoError(t, err)
	require.NoError(t, ca.IssueServer("server", []string{"127.0.0.1"}))
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"))
	require.NoError(t, err)
	require.NoError(t, ca.IssueDevice("tls"))
	authorities := x509.NewCertPool()
	pem, err := os.ReadFile(ca.CertFile())
	require.NoError(t, err)
	require.True(t, authorities.AppendCertsFromPEM(pem))
	psks, key := filepath.Join(dir, "devices.psk"), filepath.Join(dir, "device.key")
	require.NoError(t, os.WriteFile(psks, []byte("psk 00112233445566778899aabbccddeeff\nidentity 0123 identity-and-endpoint\n"), 0o600))
	require.NoError(t, os.WriteFile(key, []byte("00112233445566778899AABBCCDDEEFF\n"), 0o600))
	require.NoError(t, os.WriteFile(key+"2", []byte("0123"), 0o600))
	require.NoError(t, ca.IssueDevice("dtls"))
	dtlsCert := filepath.Join(dir, pki.FileName("dtls"))
	w := newWorld(t, func(c *backend.Config) {
		c.CoAPS, c.Credentials = "127.0.0.1:0", lwm2m.PSKFile(psks)
		c.Certificate, c.ClientCAs, c.FWHTTPS, c.CoAPTCP, c.CoAPSTCP = &pair, authorities, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	})
	deviceCert := filepath.Join(dir, pki.FileName("tls"))

	roads := map[string]struct {
		args   []string
		change func(*firmware.Request)
	}{
		"push":      {change: func(r *firmware.Request) { r.Delivery = fsm.DeliveryPush }},
		"http":      {change: pull},
		"coap":      {change: func(r *firmware.Request) { r.Protocol = fsm.ProtocolCoAP }},
		"https":     {args: []string{"-ca", ca.CertFile()}, change: func(r *firmware.Request) { r.Protocol = fsm.ProtocolHTTPS }},
		"only pull": {args: []string{"-profile", "pull", "-ca", ca.CertFile()}, change: func(*firmware.Request) {}},
		"only push": {args: []string{"-profile", "push"}, change: func(*firmware.Request) {}},
		"LwM2M 1.0": {args: []string{"-lwm2m", "1.0"}, change: pull},
		"LwM2M 1.2": {args: []string{"-lwm2m", "1.2"}, change: pull},
		"tcp": {
			args:   []string{"-server", w.backend.URL(backend.CoAPTCP)},
			change: func(r *firmware.Request) { r.Protocol = fsm.ProtocolCoAPTCP },
		},
		"tls": {
			args: []string{
				"-server", w.backend.URL(backend.CoAPSTCP), "-ca", ca.CertFile(), "-cert", deviceCert + ".crt", "-key", deviceCert + ".key",
			},
			change: func(r *firmware.Request) { r.Protocol = fsm.ProtocolCoAPSTCP },
		},
		"psk": {
			args:   []string{"-server", w.backend.URL(backend.CoAPS), "-psk-key-file", key},
			change: func(r *firmware.Request) { r.Protocol = fsm.ProtocolCoAPS },
		},
		"identity-and-endpoint": {
			args:   []string{"-server", w.backend.URL(backend.CoAPS), "-psk-key-file", key + "2", "-psk-identity", "identity"},
			change: func(r *firmware.Request) { r.Delivery = fsm.DeliveryPush },
		},
		"dtls": {
			args: []string{
				"-server", w.backend.URL(backend.CoAPS), "-ca", ca.CertFile(), "-cert", dtlsCert + ".crt", "-key", dtlsCert + ".key",
			},
			change: func(r *firmware.Request) { r.Protocol = fsm.ProtocolCoAPS },
		},
	}
	image := w.demo("1.1.0")
	for endpoint, road := range roads {
		t.Run(endpoint, func(t *testing.T) {
			t.Parallel()
			w := *w
			w.t = t
			w.client(append(road.args, "-endpoint", endpoint)...)
			u := w.end(w.start(endpoint, image, road.change), time.Minute)
			require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(u))
		})
	}
}
