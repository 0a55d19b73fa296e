package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/examples/internal/pki"
	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

func TestUpdateByHTTP(t *testing.T) {
	data := t.TempDir()
	s := startServer(t, "-data", data)
	const endpoint = "urn:imei:49015420323751/8"
	stopDevice := startDevice(t, endpoint, s.coap(), device.Config{})
	image := s.upload("1.1.0", demo.Image("1.1.0", 300_000))
	u := s.start(`{"endpoint":%q,"image":%q,"delivery":"pull","protocol":"http"}`, endpoint, image)
	u = s.await(u.ID, ended)
	require.Equal(t, "succeeded", u.Outcome, "%+v", u)
	require.Equal(t, "success", u.Result.Name)
	require.Equal(t, "idle", u.State)
	require.Equal(t, "1.0.0", u.OldVersion)
	require.EqualValues(t, 300_000, u.Progress.Bytes)

	status, device := call[struct {
		Endpoint, Transport string
		Online              bool
		Firmware            struct{ Version, State, Delivery string }
	}](s, http.MethodGet, "/devices/"+url.PathEscape(endpoint), "", nil)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, endpoint, device.Endpoint)
	require.Equal(t, "coap", device.Transport)
	require.True(t, device.Online)
	require.Equal(t, "1.1.0", device.Firmware.Version)

	stopDevice()
	require.Equal(t, 0, s.stop(), s.text())
	require.Contains(t, s.text(), "stopped")

	out, err := command(t, "export", "-data", data)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2)
	require.Equal(t, strings.Join(columns, ","), lines[0])
	require.Contains(t, lines[1], u.ID+","+endpoint+","+image+",demo,1.0.0,1.1.0,IDLE,SUCCESS,SUCCESS,succeeded,")

	out, err = command(t, "export", "-data", data, "-format", "jsonl")
	require.NoError(t, err)
	var r row
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Equal(t, u.ID, r.ID)
	require.Equal(t, "SUCCESS", r.Result)
}

func TestUpdateByHTTPS(t *testing.T) {
	dir := t.TempDir()
	_, err := command(t, "pki", "-dir", dir)
	require.NoError(t, err)
	s := startServer(t, "-data", t.TempDir(), "-fw-https", "127.0.0.1:0",
		"-cert", filepath.Join(dir, "server.crt"), "-key", filepath.Join(dir, "server.key"))
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	require.NoError(t, err)
	require.True(t, roots.AppendCertsFromPEM(ca))

	startDevice(t, "trusting", s.coap(), device.Config{TLS: &tls.Config{RootCAs: roots}})
	startDevice(t, "suspicious", s.coap(), device.Config{Attempts: 1}) // does not know the authority
	image := s.upload("1.1.0", demo.Image("1.1.0", 300_000))
	good := s.start(`{"endpoint":"trusting","image":%q,"protocol":"https"}`, image)
	bad := s.start(`{"endpoint":"suspicious","image":%q,"protocol":"https","attempts":1}`, image)
	require.Equal(t, "succeeded", s.await(good.ID, ended).Outcome)
	require.Equal(t, "failed", s.await(bad.ID, ended).Outcome)
}

// TestJournalOfHandshakesThatFail uses a device whose connections fail before it can request its
// package. The journal must say why.
func TestJournalOfHandshakesThatFail(t *testing.T) {
	dir := t.TempDir()
	_, err := command(t, "pki", "-dir", dir)
	require.NoError(t, err)
	file := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(file("devices.psk"), []byte("key-1 0123456789abcdef by-key\n"), 0o600))
	s := startServer(t, "-data", t.TempDir(), "-fw-http", "", "-fw-https", "127.0.0.1:0",
		"-cert", file("server.crt"), "-key", file("server.key"), "-coaps", "127.0.0.1:0", "-psk", file("devices.psk"))
	image := s.upload("1.1.0", demo.Image("1.1.0", 100_000))
	for _, test := range []struct {
		protocol fsm.Protocol
		config   device.Config
		says     string
	}{
		{fsm.ProtocolHTTPS, device.Config{TLS: &tls.Config{RootCAs: x509.NewCertPool()}}, "remote error: tls:"},
		{fsm.ProtocolCoAPS, device.Config{Credentials: func(string) lwm2m.FetchConfig {
			return lwm2m.FetchConfig{PSKIdentity: "stranger", PSK: []byte{1, 2, 3, 4, 5, 6, 7, 8}}
		}}, "identity"},
	} {
		t.Run(test.protocol.String(), func(t *testing.T) {
			test.config.Protocols = []fsm.Protocol{test.protocol}
			test.config.Attempts, test.config.MinBackoff, test.config.MaxBackoff = 3, 50*time.Millisecond, 100*time.Millisecond
			endpoint := "suspicious-" + test.protocol.String()
			startDevice(t, endpoint, s.coap(), test.config)
			u := s.start(`{"endpoint":%q,"image":%q,"delivery":"pull","attempts":1}`, endpoint, image)
			u = s.await(u.ID, ended)
			require.Equal(t, "failed", u.Outcome, "%+v", u)
			var trouble []string
			for _, line := range u.Journal {
				if line.Event == "connection_failed" {
					trouble = append(trouble, line.Detail)
				}
			}
			require.NotEmpty(t, trouble, "%+v", u.Journal)
			require.Contains(t, trouble[0], test.says)
		})
	}
}

func TestDevicesByTCPTLSAndDTLS(t *testing.T) {
	dir := t.TempDir()
	const endpoint = "urn:imei:490154203237518"
	_, err := command(t, "pki", "-dir", dir, "-device", endpoint)
	require.NoError(t, err)
	file := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(file("devices.psk"), []byte("key-1 0123456789abcdef by-key\n"), 0o600))
	s := startServer(t, "-data", t.TempDir(), "-coap-tcp", "127.0.0.1:0", "-coaps-tcp", "127.0.0.1:0", "-fw-https", "",
		"-coaps", "127.0.0.1:0", "-psk", file("devices.psk"),
		"-cert", file("server.crt"), "-key", file("server.key"), "-client-ca", file("ca.crt"))
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(file("ca.crt"))
	require.NoError(t, err)
	require.True(t, roots.AppendCertsFromPEM(ca))
	pair, err := tls.LoadX509KeyPair(file(pki.FileName(endpoint)+".crt"), file(pki.FileName(endpoint)+".key"))
	require.NoError(t, err)

	startClient(t, lwm2m.ClientConfig{Endpoint: "plain", Server: s.urls["coap+tcp devices, without security"]}, device.Config{})
	secure := lwm2m.ClientConfig{
		Endpoint: endpoint, Server: s.urls["coaps+tcp devices"], Certificate: &pair, RootCAs: roots,
		MinRetry: 50 * time.Millisecond,
	}
	startClient(t, secure, device.Config{})
	secure.Endpoint = "somebody-else" // not the endpoint of its certificate
	startClient(t, secure, device.Config{})
	keyed := lwm2m.ClientConfig{
		Endpoint: "by-key", Server: s.urls["coaps devices"], PSKIdentity: "key-1", PSK: []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef},
		MinRetry: 50 * time.Millisecond,
	}
	startClient(t, keyed, device.Config{})
	keyed.Endpoint = "somebody-else" // not the endpoint of its key
	startClient(t, keyed, device.Config{})

	image := s.upload("1.1.0", demo.Image("1.1.0", 100_000))
	for endpoint, transport := range map[string]string{"plain": "coap+tcp", endpoint: "coaps+tcp", "by-key": "coaps"} {
		u := s.start(`{"endpoint":%q,"image":%q}`, endpoint, image)
		u = s.await(u.ID, ended)
		require.Equal(t, "succeeded", u.Outcome, "%+v", u)
		_, device := call[struct{ Transport string }](s, http.MethodGet, "/devices/"+endpoint, "", nil)
		require.Equal(t, transport, device.Transport)
	}
	status, _ := call[struct{}](s, http.MethodGet, "/devices/somebody-else", "", nil)
	require.Equal(t, http.StatusNotFound, status)
}

func TestServerKilledWhileADeviceDownloads(t *testing.T) {
	data := t.TempDir()
	s := startServer(t, "-data", data)
	stopDevice := startDevice(t, "dev", s.coap(), device.Config{
		Transport: slow{}, MinBackoff: 100 * time.Millisecond, MaxBackoff: time.Second, Attempts: 50,
	})
	image := s.upload("1.1.0", demo.Image("1.1.0", 4<<20))
	u := s.start(`{"endpoint":"dev","image":%q,"protocol":"http"}`, image)
	s.await(u.ID, func(u update) bool { return u.Progress.Bytes > 1<<19 })
	require.NoError(t, s.cmd.Process.Kill())
	<-s.done

	host := func(u string) string { return strings.SplitN(u, "/", 4)[2] }
	s = startServer(t, "-data", data, "-coap", host(s.coap()), "-fw-http", host(s.packages()))
	u = s.await(u.ID, ended)
	require.Equal(t, "succeeded", u.Outcome, "%+v", u)
	require.Equal(t, "1.0.0", u.OldVersion)
	_, device := call[struct{ Firmware struct{ Protocols []string } }](s, http.MethodGet, "/devices/dev", "", nil)
	require.Contains(t, device.Firmware.Protocols, "https", "what was known before the restart is known still")
	stopDevice()
}

// slow is a transport with slow bodies.
type slow struct{}

func (slow) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		response.Body = slowBody{response.Body}
	}
	return response, err
}

type slowBody struct{ io.ReadCloser }

func (b slowBody) Read(p []byte) (int, error) {
	<-time.After(5 * time.Millisecond)
	return b.ReadCloser.Read(p[:min(len(p), 16<<10)])
}

// held is a transport with bodies that end after a channel is closed.
type held struct{ until <-chan struct{} }

func (h held) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		response.Body = heldBody{response.Body, h.until, r.Context().Done()}
	}
	return response, err
}

type heldBody struct {
	io.ReadCloser
	until, done <-chan struct{}
}

func (b heldBody) Read(p []byte) (int, error) {
	select {
	case <-b.until:
	case <-b.done:
	}
	return b.ReadCloser.Read(p)
}

// TestFixedHostClient is a device with a fixed host: it puts a slash before the path that it was
// given, uses HTTP/1.0, follows no redirect, and treats any response as firmware.
func TestFixedHostClient(t *testing.T) {
	s := startServer(t, "-data", t.TempDir())
	asked := make(chan struct{}) // closed when the test has asked, too
	startDevice(t, "fixed", s.coap(), device.Config{FixedHost: s.packages(), Transport: held{asked}})
	content := demo.Image("v0.1.0", 1<<20)
	image := s.upload("v0.1.0", content)
	u := s.start(`{"endpoint":"fixed","image":%q,"profile":"fixed-host"}`, image)
	s.await(u.ID, func(u update) bool { return u.Progress.Bytes > 0 })
	for _, path := range []string{"/media/firmware/v0.1.0.bin", "//media/firmware/v0.1.0.bin"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.packages(), "http://"))
		require.NoError(t, err)
		defer conn.Close()
		fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		got, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, response.StatusCode, "%s: %s", path, got)
		require.True(t, bytes.Equal(content, got), path)
	}
	close(asked)
	u = s.await(u.ID, ended)
	require.Equal(t, "succeeded", u.Outcome, "%+v", u)
}

func TestTokenForOperators(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("s3cret\n"), 0o600))
	s := startServer(t, "-data", t.TempDir(), "-store", "memory:", "-http", "0.0.0.0:0", "-api-token-file", file)
	for header, status := range map[string]int{
		"":               http.StatusUnauthorized,
		"Bearer wrong":   http.StatusUnauthorized,
		"Basic s3cret":   http.StatusUnauthorized,
		"Bearer s3cret":  http.StatusOK,
		"bearer s3cret":  http.StatusOK,
		"Bearer s3cret1": http.StatusUnauthorized,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(s.api(), "[::]", "127.0.0.1", 1)+"/devices", nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", header)
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, status, response.StatusCode, header)
	}
	require.NotContains(t, s.text(), "s3cret")
}

func TestNamesThatPointHere(t *testing.T) {
	s := startServer(t, "-data", t.TempDir(), "-store", "memory:")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.api()+"/devices", nil)
	require.NoError(t, err)
	r.Host = "rebound.example:8080"
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusMisdirectedRequest, response.StatusCode)
}

func TestStopWithAnOpenEventStream(t *testing.T) {
	s := startServer(t, "-data", t.TempDir(), "-store", "memory:")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.api()+"/events", nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	begin := time.Now()
	require.Equal(t, 0, s.stop(), s.text())
	require.Less(t, time.Since(begin), 9*time.Second, "nothing waits 10 s for the stream's reader")
}
