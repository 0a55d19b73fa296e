package door

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/testkit"
)

// A recorder records the sizes of the TLS records that are written to a connection.
type recorder struct {
	net.Conn
	mu    sync.Mutex
	rest  []byte
	kinds []byte
	sizes []int
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.rest = append(r.rest, p...)
	for len(r.rest) >= recordHeader {
		n := int(binary.BigEndian.Uint16(r.rest[3:]))
		if len(r.rest) < recordHeader+n {
			break
		}
		r.kinds, r.sizes = append(r.kinds, r.rest[0]), append(r.sizes, n)
		r.rest = r.rest[recordHeader+n:]
	}
	r.mu.Unlock()
	return r.Conn.Write(p)
}

// take returns the sizes since the last call. Each record must hold application data, or an alert.
func (r *recorder) take(t *testing.T) []int {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	sizes := r.sizes
	for _, kind := range r.kinds {
		require.Contains(t, []byte{21, 23}, kind)
	}
	r.kinds, r.sizes = nil, nil
	return sizes
}

// TestRecords checks each record of application data that an HTTP server writes: headers, a large
// body, and an answer of the server itself.
func TestRecords(t *testing.T) {
	_, pair := testkit.SelfSigned(t, "localhost")
	body := bytes.Repeat([]byte("firmware"), 1<<17) // 1 MiB
	for version, overhead := range map[uint16]int{tls.VersionTLS12: 8 + 16, tls.VersionTLS13: 1 + 16} {
		for _, limit := range []int{63, 512, 1024, 2048, 4096} {
			t.Run(fmt.Sprint(tls.VersionName(version), " ", limit), func(t *testing.T) {
				a, b := net.Pipe()
				wire := &recorder{Conn: b}
				config := forSmall(&tls.Config{
					Certificates: []tls.Certificate{pair}, MaxVersion: version, MinVersion: version, NextProtos: []string{"h2", "http/1.1"},
				})
				secure := tls.Server(wire, config)
				client := tls.Client(a, &tls.Config{
					InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(1),
					CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
				})
				done := make(chan error, 1)
				go func() { done <- client.Handshake() }()
				require.NoError(t, secure.Handshake())
				require.NoError(t, <-done)
				require.Equal(t, "http/1.1", client.ConnectionState().NegotiatedProtocol)
				wire.mu.Lock()
				wire.kinds, wire.sizes = nil, nil
				wire.mu.Unlock()

				l := &oneByOne{conns: make(chan net.Conn, 1), done: make(chan struct{})}
				l.conns <- &smallConn{Conn: secure, limit: limit}
				server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					require.NotNil(t, r.TLS)
					require.Equal(t, version, r.TLS.Version)
					switch r.URL.Path {
					case "/headers":
						w.Header().Set("X-Long", strings.Repeat("x", 20_000))
					case "/copy":
						_, _ = io.Copy(w, bytes.NewReader(body)) // io.Copy may use the connection's own ReadFrom
					default:
						_, _ = w.Write(body)
					}
				})}
				go func() { _ = server.Serve(l) }()
				defer server.Close()
				answers := bufio.NewReader(client)
				for _, path := range []string{"/", "/copy", "/headers"} {
					_, err := io.WriteString(client, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
					require.NoError(t, err)
					resp, err := http.ReadResponse(answers, nil)
					require.NoError(t, err)
					got, err := io.ReadAll(resp.Body)
					require.NoError(t, err)
					require.NoError(t, resp.Body.Close())
					if path != "/headers" {
						require.True(t, bytes.Equal(body, got))
					}
					sizes, most := wire.take(t), 0
					for _, n := range sizes {
						most = max(most, n)
					}
					require.Equal(t, limit+overhead, most, "%d records", len(sizes))
				}
				_, err := client.Write([]byte("no HTTP at all\r\n\r\n")) // the server's own answer
				require.NoError(t, err)
				answer := make([]byte, 200)
				n, err := io.ReadAtLeast(answers, answer, 100)
				require.NoError(t, err)
				require.Contains(t, string(answer[:n]), "400 Bad Request")
				for _, n := range wire.take(t) {
					require.LessOrEqual(t, n, limit+overhead)
				}
			})
		}
	}
}

// TestForSmall: a configuration that GetConfigForClient returns is also for small buffers.
func TestForSmall(t *testing.T) {
	chosen := &tls.Config{NextProtos: []string{"h2", "http/1.1"}}
	c := forSmall(&tls.Config{NextProtos: []string{"h2", "coap"}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return chosen, nil }})
	require.Equal(t, []string{"coap"}, c.NextProtos)
	require.True(t, c.SessionTicketsDisabled)
	got, err := c.GetConfigForClient(nil)
	require.NoError(t, err)
	require.Equal(t, []string{"http/1.1"}, got.NextProtos)
	require.True(t, got.SessionTicketsDisabled)
	require.Equal(t, []string{"h2", "http/1.1"}, chosen.NextProtos, "the original is as it was")
	require.False(t, chosen.SessionTicketsDisabled)
}

// TestSmallWrites: writes of several goroutines do not mix.
func TestSmallWrites(t *testing.T) {
	a, b := net.Pipe()
	_, pair := testkit.SelfSigned(t, "localhost")
	secure := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{pair}})
	client := tls.Client(a, &tls.Config{InsecureSkipVerify: true})
	go func() { _ = secure.Handshake() }()
	require.NoError(t, client.Handshake())
	c := &smallConn{Conn: secure, limit: 100}
	var writers sync.WaitGroup
	for _, text := range []string{"a", "b", "c"} {
		writers.Go(func() { _, _ = c.Write(bytes.Repeat([]byte(text), 1000)) })
	}
	got := make([]byte, 3000)
	_, err := io.ReadFull(client, got)
	require.NoError(t, err)
	for i := 0; i < len(got); i += 1000 {
		require.Equal(t, bytes.Repeat(got[i:i+1], 1000), got[i:i+1000])
	}
	writers.Wait()
	_ = a.Close()
	_, err = c.Write(nil)
	require.NoError(t, err, "nothing is nothing")
	_, err = c.Write([]byte("x"))
	require.Error(t, err)
}
