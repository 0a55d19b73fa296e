package firmware

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/peers"
	"github.com/otago-iot/otago/internal/testkit"
)

// opensslPath returns the path of openssl. Without it the test is skipped, and fails under CI.
func opensslPath(t *testing.T) string {
	t.Helper()
	peers.Mark(t, "OpenSSL", "client", "https", "download in records of 512 to 4096 bytes, TLS 1.2 and 1.3")
	path, err := exec.LookPath("openssl")
	if err != nil {
		if ci, _ := strconv.ParseBool(os.Getenv("CI")); ci {
			t.Fatal("openssl is not installed")
		}
		t.Skip("openssl is not installed")
	}
	return path
}

// A wire records the sizes of the TLS records that a listener's connections send after mark.
type wire struct {
	net.Listener
	mu    sync.Mutex
	kinds []byte
	sizes []int
}

type wireConn struct {
	net.Conn
	w    *wire
	rest []byte
}

func (w *wire) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &wireConn{Conn: c, w: w}, nil
}

func (c *wireConn) Write(p []byte) (int, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.rest = append(c.rest, p...)
	for len(c.rest) >= 5 {
		n := int(binary.BigEndian.Uint16(c.rest[3:]))
		if len(c.rest) < 5+n {
			break
		}
		c.w.kinds, c.w.sizes = append(c.w.kinds, c.rest[0]), append(c.w.sizes, n)
		c.rest = c.rest[5+n:]
	}
	return c.Conn.Write(p)
}

func (w *wire) mark() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kinds, w.sizes = nil, nil
}

func (w *wire) largest() (size, records int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, n := range w.sizes {
		if w.kinds[i] == 23 {
			size, records = max(size, n), records+1
		}
	}
	return size, records
}

// TestSmallTLSClients has OpenSSL download with each of its record sizes.
func TestSmallTLSClients(t *testing.T) {
	openssl := opensslPath(t)
	f := newDelivery(t, 1<<20, DeliveryConfig{})
	_, pair := testkit.SelfSigned(t, "localhost")
	files := pairFiles(t, pair)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{Listener: tcp}
	var logged testkit.Log
	var mu sync.Mutex
	var state *tls.ConnectionState
	server := NewHTTPServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		state = r.TLS
		mu.Unlock()
		w.mark()
		f.d.ServeHTTP(rw, r)
	}))
	server.ErrorLog = log.New(&logged, "", 0)
	go func() {
		_ = server.Serve(NewTLSListener(w, &tls.Config{
			Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}, ClientAuth: tls.RequestClientCert,
		}))
	}()
	defer server.Close()
	client := func(t *testing.T, path string, flags ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		flags = append([]string{"s_client", "-quiet", "-connect", tcp.Addr().String(), "-alpn", "h2,http/1.1"}, flags...)
		cmd := exec.CommandContext(ctx, openssl, flags...)
		cmd.Stdin = strings.NewReader("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		out, _ := cmd.Output() // its status is 1 if the server closed the connection, or was not trusted
		return string(out)
	}
	for _, version := range []struct {
		flags    []string
		is       uint16
		overhead int
	}{
		{[]string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"}, tls.VersionTLS12, 8 + 16},
		{[]string{"-tls1_3"}, tls.VersionTLS13, 1 + 16},
	} {
		for _, size := range []int{512, 1024, 2048, 4096} {
			t.Run(fmt.Sprint(tls.VersionName(version.is), " ", size), func(t *testing.T) {
				flags := append([]string{"-maxfraglen", strconv.Itoa(size), "-cert", files + "/crt", "-key", files + "/key"}, version.flags...)
				for path, status := range map[string]string{"/fw/" + f.token: "200 OK", "//fw/x": "404 Not Found"} {
					answer := client(t, path, flags...)
					require.True(t, strings.HasPrefix(answer, "HTTP/1.1 "+status), "%.100s", answer)
					if status == "200 OK" {
						require.True(t, strings.HasSuffix(answer, string(f.body)))
					}
					largest, records := w.largest()
					require.Positive(t, records)
					require.LessOrEqual(t, largest, size+version.overhead)
					if status == "200 OK" {
						require.Equal(t, size+version.overhead, largest)
						require.GreaterOrEqual(t, records, len(f.body)/size)
					}
					mu.Lock()
					require.NotNil(t, state)
					require.Equal(t, version.is, state.Version)
					require.Equal(t, "http/1.1", state.NegotiatedProtocol)
					require.Len(t, state.PeerCertificates, 1)
					mu.Unlock()
				}
			})
		}
	}
	// The server logs a failed handshake as it logs any other.
	require.Empty(t, logged.String())
	_, other := testkit.SelfSigned(t, "localhost")
	client(t, "/", "-maxfraglen", "1024", "-verify_return_error", "-CAfile", pairFiles(t, other)+"/crt")
	require.Eventually(t, func() bool { return strings.Contains(logged.String(), "http: TLS handshake error from 127.0.0.1:") },
		10*time.Second, 10*time.Millisecond)
}

// TestOrdinaryTLSClients: clients without a limit get HTTP/1.1, HTTP/2 and large records.
func TestOrdinaryTLSClients(t *testing.T) {
	_, pair := testkit.SelfSigned(t, "localhost")
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{Listener: tcp}
	server := NewHTTPServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		w.mark()
		_, _ = fmt.Fprintf(rw, "%s %d %s", r.Proto, len(body), bytes.Repeat([]byte("x"), 1<<20))
	}))
	go func() {
		_ = server.Serve(NewTLSListener(w, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}))
	}()
	defer server.Close()
	for proto, two := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: two, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		for range 2 {
			resp, err := client.Post("https://"+tcp.Addr().String(), "text/plain", strings.NewReader(strings.Repeat("y", 100_000)))
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.True(t, strings.HasPrefix(string(body), proto+" 100000 x"), "%.30s", body)
		}
		client.CloseIdleConnections()
	}
	largest, _ := w.largest()
	require.Greater(t, largest, 4096)

	resp, err := http.Get("http://" + tcp.Addr().String()) //nolint:noctx // on loopback
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, 400, resp.StatusCode, "a client that speaks HTTP gets an answer")
}

// pairFiles writes a certificate and its key to files named crt and key.
func pairFiles(t *testing.T, pair tls.Certificate) (dir string) {
	t.Helper()
	dir = t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{
		"crt": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, "key": {Type: "PRIVATE KEY", Bytes: der},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	return dir
}
