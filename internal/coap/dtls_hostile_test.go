package coap_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// tamper is a client's socket whose datagrams are changed on their way.
type tamper struct {
	net.PacketConn
	change func(b []byte) [][]byte // what is sent instead
}

func (c tamper) WriteTo(b []byte, to net.Addr) (int, error) {
	for _, p := range c.change(bytes.Clone(b)) {
		if _, err := c.PacketConn.WriteTo(p, to); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func dialTampered(t *testing.T, addr netip.AddrPort, secure coap.DTLSConfig, change func(b []byte) [][]byte) (*coap.Endpoint, coap.Peer, error) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	client := coap.New(coap.Config{Transmission: coap.Transmission{ACKTimeout: 100 * time.Millisecond}})
	t.Cleanup(func() { client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// Without the methods of a UDP socket, so that WriteTo is used.
	peer, err := client.DialDTLS(ctx, tamper{struct{ net.PacketConn }{conn}, change}, addr, secure)
	return client, peer, err
}

// TestOddRecordVersion lets in a client whose ClientHello is in a record of
// version 0xfe00, as some write it.
func TestOddRecordVersion(t *testing.T) {
	server := serveDTLS(t, coap.Config{}, pskOf(testIdentity, testKey))
	odd := 0
	client, peer, err := dialTampered(t, server.addr, pskClient(), func(b []byte) [][]byte {
		if b[0] == 22 && b[13] == 1 {
			b[1], b[2] = 0xfe, 0x00
			odd++
		}
		return [][]byte{b}
	})
	require.NoError(t, err)
	require.Positive(t, odd)
	_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.GET})
	require.NoError(t, err)
}

// TestHandshakeOverBadNetwork loses the first copy of each flight, and repeats
// and reorders the rest.
func TestHandshakeOverBadNetwork(t *testing.T) {
	certs := newCertificates(t)
	secure := coap.DTLSConfig{Certificate: &certs.server, ClientCAs: certs.roots}
	server := serveDTLS(t, coap.Config{}, secure)
	n := 0
	client, peer, err := dialTampered(t, server.addr, coap.DTLSConfig{Certificate: &certs.device, RootCAs: certs.roots, ServerName: "server"},
		func(b []byte) [][]byte {
			if n++; n%3 == 1 {
				return nil
			}
			return [][]byte{b, b}
		})
	require.NoError(t, err)
	_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.GET})
	require.NoError(t, err)
}

// TestLostLastFlight loses the server's last flight: when the client repeats
// its own, the server does too, though the handshake is over for it.
func TestLostLastFlight(t *testing.T) {
	server := serveDTLS(t, coap.Config{}, pskOf(testIdentity, testKey))
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	lost := &lossy{PacketConn: conn}
	client := coap.New(coap.Config{})
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	peer, err := client.DialDTLS(ctx, lost, server.addr, pskClient())
	require.NoError(t, err)
	require.True(t, lost.lost)
	_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.GET})
	require.NoError(t, err)
}

// lossy loses the first ChangeCipherSpec that comes.
type lossy struct {
	net.PacketConn
	lost bool
}

func (l *lossy) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := l.PacketConn.ReadFrom(b)
	if err == nil && n > 0 && b[0] == 20 && !l.lost {
		l.lost = true
		return l.ReadFrom(b)
	}
	return n, addr, err
}

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

// TestReplays sends every record of a client twice, and some again much later:
// each counts once.
func TestReplays(t *testing.T) {
	var mu sync.Mutex
	count := 0
	server := serveDTLS(t, coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response {
		mu.Lock()
		defer mu.Unlock()
		count++
		return &coap.Response{Code: coap.Changed}
	}), Bounds: coap.Bounds{DedupEntries: 1}}, pskOf(testIdentity, testKey))
	var old [][]byte
	client, peer, err := dialTampered(t, server.addr, pskClient(), func(b []byte) [][]byte {
		if b[0] != 23 && b[0] != 25 {
			return [][]byte{b}
		}
		old = append(old, b)
		out := [][]byte{b, bytes.Clone(b)}
		forged := bytes.Clone(b)
		forged[len(forged)-1] ^= 1
		return append(out, forged, bytes.Clone(old[0]))
	})
	require.NoError(t, err)
	const requests = 200
	for range requests {
		_, err := client.Do(t.Context(), peer, &coap.Request{Code: coap.POST, NonConfirmable: true})
		require.NoError(t, err)
	}
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, requests, count)
}

// TestCloseNotify ends the association on both sides, whoever leaves.
func TestCloseNotify(t *testing.T) {
	for _, leaves := range []string{"client", "server"} {
		t.Run(leaves, func(t *testing.T) {
			closed := make(chan coap.Peer, 2)
			seen := make(chan coap.Peer, 1)
			server := serveDTLS(t, coap.Config{OnClosed: func(p coap.Peer) { closed <- p }, Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
				seen <- r.Peer
				return &coap.Response{Code: coap.Changed}
			})}, pskOf(testIdentity, testKey))
			gone := make(chan coap.Peer, 2)
			client, peer, err := dialDTLS(t, server.addr, coap.Config{OnClosed: func(p coap.Peer) { gone <- p }}, pskClient())
			require.NoError(t, err)
			_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.POST})
			require.NoError(t, err)
			device := <-seen
			require.NotNil(t, server.Identity(device))
			if leaves == "client" {
				client.Hangup(peer)
			} else {
				server.stop()
			}
			require.Equal(t, device, <-closed)
			require.Equal(t, peer, <-gone)
			require.Nil(t, server.Identity(device))
			_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.POST})
			require.ErrorIs(t, err, coap.ErrNoPeer)
			require.Empty(t, closed)
			require.Empty(t, gone)
		})
	}
}

// TestNewHandshakeFromTheSameAddress replaces an association when it is
// complete, not before.
func TestNewHandshakeFromTheSameAddress(t *testing.T) {
	for _, noCID := range []bool{false, true} {
		t.Run(fmt.Sprintf("without Connection ID: %v", noCID), func(t *testing.T) {
			closed := make(chan coap.Peer, 2)
			seen := make(chan coap.Peer, 4)
			server := serveDTLS(t, coap.Config{OnClosed: func(p coap.Peer) { closed <- p }, Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
				seen <- r.Peer
				return &coap.Response{Code: coap.Changed}
			})}, pskOf(testIdentity, testKey))
			conn, err := net.ListenPacket("udp", "127.0.0.1:0")
			require.NoError(t, err)
			shared := &sharedConn{PacketConn: conn}
			secure := pskClient()
			secure.NoConnectionID = noCID
			dial := func(secure coap.DTLSConfig) (*coap.Endpoint, coap.Peer, error) {
				client := coap.New(coap.Config{})
				t.Cleanup(func() { client.Close() })
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				peer, err := client.DialDTLS(ctx, shared.use(), server.addr, secure)
				return client, peer, err
			}
			ask := func(client *coap.Endpoint, peer coap.Peer) coap.Peer {
				_, err := client.Do(t.Context(), peer, &coap.Request{Code: coap.POST})
				require.NoError(t, err)
				return <-seen
			}
			first, peer, err := dial(secure)
			require.NoError(t, err)
			old := ask(first, peer)

			wrong := secure
			wrong.Key = []byte("wrong")
			_, _, err = dial(wrong)
			require.ErrorIs(t, err, coap.ErrWrongKey)
			shared.back()
			require.Equal(t, old, ask(first, peer), "a handshake that fails changes nothing")

			second, peer, err := dial(secure)
			require.NoError(t, err)
			require.NotEqual(t, old, ask(second, peer))
			require.Equal(t, old, <-closed)
		})
	}
}

// sharedConn is one socket that several endpoints use after one another.
type sharedConn struct {
	net.PacketConn
	mu    sync.Mutex
	users []*sharedUser
	once  sync.Once
}

type sharedUser struct {
	*sharedConn
	in   chan []byte
	from net.Addr
	done chan struct{}
	end  sync.Once
}

func (c *sharedConn) use() *sharedUser {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := &sharedUser{sharedConn: c, in: make(chan []byte, 64), done: make(chan struct{})}
	c.users = append(c.users, u)
	c.once.Do(func() {
		go func() {
			b := make([]byte, 4096)
			for {
				n, from, err := c.PacketConn.ReadFrom(b)
				if err != nil {
					return
				}
				c.mu.Lock()
				u := c.users[len(c.users)-1]
				c.mu.Unlock()
				u.from = from
				u.in <- bytes.Clone(b[:n])
			}
		}()
	})
	return u
}

// back gives the socket to the user before.
func (c *sharedConn) back() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users = c.users[:len(c.users)-1]
}

func (u *sharedUser) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-u.in:
		return copy(b, p), u.from, nil
	case <-u.done:
		return 0, nil, net.ErrClosed
	}
}

func (u *sharedUser) Close() error {
	u.end.Do(func() { close(u.done) })
	u.mu.Lock()
	defer u.mu.Unlock()
	if u == u.users[0] {
		return u.PacketConn.Close()
	}
	return nil
}

// someHello is a ClientHello as a client sends it first.
func someHello(t *testing.T) []byte {
	t.Helper()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hello := make(chan []byte, 1)
	go func() {
		b := make([]byte, 2048)
		n, _, err := silent.ReadFrom(b)
		if err == nil {
			hello <- b[:n]
		}
		cancel()
	}()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	client := coap.New(coap.Config{})
	defer client.Close()
	_, err = client.DialDTLS(ctx, conn, silent.LocalAddr().(*net.UDPAddr).AddrPort(), pskClient())
	require.ErrorIs(t, err, coap.ErrHandshake)
	return <-hello
}

// spoofed is a server's socket, into which datagrams can be put that come from
// any address.
type spoofed struct {
	net.PacketConn
	in   chan forgery
	real chan forgery
}

type forgery struct {
	b    []byte
	from net.Addr
	err  error
}

func newSpoofed(t *testing.T) *spoofed {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &spoofed{PacketConn: conn, in: make(chan forgery), real: make(chan forgery)}
	go func() {
		for {
			b := make([]byte, 4096)
			n, from, err := conn.ReadFrom(b)
			s.real <- forgery{b[:n], from, err}
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *spoofed) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-s.real:
		return copy(b, p.b), p.from, p.err
	case p := <-s.in:
		return copy(b, p.b), p.from, nil
	}
}

// TestFloodOfHandshakes begins very many handshakes from addresses that are
// forged. What they cost is bounded, and a device gets in all the while.
func TestFloodOfHandshakes(t *testing.T) {
	const limit, flood = 1000, 6000
	hello := someHello(t)
	conn := newSpoofed(t)
	server := coap.New(coap.Config{Bounds: coap.Bounds{}, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.ServeDTLS(ctx, conn, pskOf(testIdentity, testKey)) }()
	addr := conn.LocalAddr().(*net.UDPAddr).AddrPort()

	before, goroutines := used(), runtime.NumGoroutine()
	most, mostGoroutines := 0, 0
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		for i := range flood {
			b := bytes.Clone(hello)
			rand.Read(b[27:59])
			conn.in <- forgery{b: b, from: &net.UDPAddr{IP: net.IPv4(127, 1, byte(i>>16), byte(i>>8)), Port: 1024 + i&0xff}}
			if i%1000 == 999 {
				most, mostGoroutines = max(most, used()), max(mostGoroutines, runtime.NumGoroutine())
			}
		}
	}()
	in, tries := 0, 0
	for over := false; !over; tries++ {
		client, peer, err := dialDTLS(t, addr, coap.Config{}, pskClient())
		if err == nil {
			_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.GET})
			require.NoError(t, err)
			in++
		}
		require.NoError(t, client.Close())
		select {
		case <-flooded:
			over = true
		default:
		}
	}
	t.Logf("%d of %d devices got in; %d KB per half-open handshake, %d goroutines in all",
		in, tries, (most-before)/limit/1024, mostGoroutines-goroutines)
	require.Greater(t, in, tries/2)
	require.Less(t, most-before, limit*64<<10+4<<20)
	require.Less(t, mostGoroutines-goroutines, limit*8+100)
	cancel()
	require.NoError(t, <-served)
	require.NoError(t, server.Close())
}

// TestHandshakeThatGaveWay tells the client of one to begin anew.
func TestHandshakeThatGaveWay(t *testing.T) {
	hello := someHello(t)
	conn := newSpoofed(t)
	server := coap.New(coap.Config{Bounds: coap.Bounds{Handshakes: 1}})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.ServeDTLS(ctx, conn, pskOf(testIdentity, testKey)) }()
	hellos := 0
	_, _, err := dialTampered(t, conn.LocalAddr().(*net.UDPAddr).AddrPort(), pskClient(), func(b []byte) [][]byte {
		if b[0] == 22 && b[13] == 1 {
			if hellos++; hellos == 2 {
				// Just before the client comes back with its cookie, too late.
				<-time.After(600 * time.Millisecond)
				conn.in <- forgery{b: hello, from: &net.UDPAddr{IP: net.IPv4(127, 1, 0, 1), Port: 1024}}
			}
		}
		return [][]byte{b}
	})
	require.ErrorIs(t, err, coap.ErrHandshake)
	require.ErrorContains(t, err, "HandshakeFailure")
	client, peer, err := dialDTLS(t, conn.LocalAddr().(*net.UDPAddr).AddrPort(), coap.Config{}, pskClient())
	require.NoError(t, err)
	_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.GET})
	require.NoError(t, err)
	cancel()
	require.NoError(t, <-served)
	require.NoError(t, server.Close())
}

// TestTalkativeHandshakes has peers send what belongs to no handshake that ends.
// It is not kept.
func TestTalkativeHandshakes(t *testing.T) {
	const peers = 50
	hello := someHello(t)
	conn := newSpoofed(t)
	server := coap.New(coap.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.ServeDTLS(ctx, conn, pskOf(testIdentity, testKey)) }()
	before := used()
	for i := range peers {
		from := &net.UDPAddr{IP: net.IPv4(127, 1, 0, byte(i)), Port: 1024}
		conn.in <- forgery{b: hello, from: from}
		for n := range 1000 {
			// Messages to come, one byte short.
			b := make([]byte, 1200)
			copy(b, []byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, byte(n >> 8), byte(n)})
			binary.BigEndian.PutUint16(b[11:], uint16(len(b)-13))
			copy(b[13:], []byte{16, 0, 4, 0x94, byte((n + 5) >> 8), byte(n + 5), 0, 0, 0, 0, 4, 0x93})
			conn.in <- forgery{b: b, from: from}
		}
	}
	require.Less(t, used()-before, peers*100<<10)
	cancel()
	require.NoError(t, <-served)
	require.NoError(t, server.Close())
}

// TestAssociationsOfOneIdentity end when there are too many.
func TestAssociationsOfOneIdentity(t *testing.T) {
	closed := make(chan coap.Peer, 100)
	server := serveDTLS(t, coap.Config{
		Bounds: coap.Bounds{IdentityAssociations: 2}, OnClosed: func(p coap.Peer) { closed <- p },
	}, pskOf(testIdentity, testKey))
	for n := range 12 {
		_, _, err := dialDTLS(t, server.addr, coap.Config{}, pskClient())
		require.NoError(t, err)
		if n < 8 {
			require.Empty(t, closed)
		} else {
			<-closed
		}
	}
}

// used is the memory in use: heap and stacks.
func used() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// TestGarbage sends all sorts of nonsense at an association's address, and at
// the server; it goes on.
func TestGarbage(t *testing.T) {
	conn := newSpoofed(t)
	server := coap.New(coap.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.ServeDTLS(ctx, conn, pskOf(testIdentity, testKey)) }()
	local, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	client := coap.New(coap.Config{})
	peer, err := client.DialDTLS(ctx, local, conn.LocalAddr().(*net.UDPAddr).AddrPort(), pskClient())
	require.NoError(t, err)
	alert := []byte{21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40}
	for i := range 2000 {
		b := make([]byte, i%100)
		rand.Read(b)
		if len(b) > 13 {
			b[0] = byte(20 + i%6)
			binary.BigEndian.PutUint16(b[3:], uint16(i%3))
			binary.BigEndian.PutUint16(b[11:], uint16(len(b)-13))
		}
		if i%7 == 0 {
			b = alert // which anybody can send
		}
		conn.in <- forgery{b: b, from: local.LocalAddr()}
	}
	_, err = client.Do(ctx, peer, &coap.Request{Code: coap.GET})
	require.NoError(t, err)
	require.NoError(t, client.Close())
	cancel()
	require.NoError(t, <-served)
	require.NoError(t, server.Close())
}
